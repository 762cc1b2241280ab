//! House rules in a renderer: every object gets a cost centre, and images without a version are refused.
//!
//! A renderer is pure: the same request gives the same bytes. This one stands around another; put
//! `aurora_k8s::render::ArgoRenderer` inside for a real cluster. `renderer_laws!` holds it to the contract.

#![expect(clippy::print_stdout, reason = "examples say what happens")]

use std::sync::Arc;

use aurora_core::control::ControlPlane;
use aurora_core::deploy_file::Problem;
use aurora_core::error::BoxError;
use aurora_core::manifest::ObjectRef;
use aurora_core::plan::Plan;
use aurora_core::port::clock::SystemClock;
use aurora_core::port::executor::memory::InMemoryCluster;
use aurora_core::port::renderer::{InMemoryRenderer, ManifestRenderer, RenderError, RenderRequest};
use aurora_core::port::router::InMemoryRouter;
use aurora_core::port::store::memory::InMemoryStore;
use aurora_core::tasks::Tasks;
use aurora_examples::{agent, deploy, deploy_file};
use serde_json::Value;

#[derive(Debug)]
struct HouseRules<R> {
    inner: R,
    cost_centre: String,
}

impl<R: ManifestRenderer> ManifestRenderer for HouseRules<R> {
    fn render(&self, request: &RenderRequest) -> Result<Plan, RenderError> {
        let mut plan = self.inner.render(request)?;
        let mut problems = Vec::new();
        for planned in &mut plan.objects {
            planned.body["metadata"]["labels"]["example.com/cost-centre"] = self.cost_centre.clone().into();
            let containers = planned.body["spec"]["template"]["spec"]["containers"].as_array();
            let images = containers
                .into_iter()
                .flatten()
                .map(|container| &container["image"]);
            for image in images
                .filter_map(Value::as_str)
                .filter(|image| !image.contains(':'))
            {
                // The place in the user's file comes along, so that the error points there.
                let message = format!("the image `{image}` names no version");
                let problem = Problem::error("imageVersion", "/spec/template/spec/containers", message);
                problems.push(problem.at(&planned.origin.file, planned.origin.line, 1));
            }
        }
        if problems.is_empty() {
            return Ok(plan);
        }
        let target = request.target.clone();
        Err(RenderError { target, problems })
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let renderer = HouseRules {
        inner: InMemoryRenderer,
        cost_centre: "4711".to_owned(),
    };
    let (router, cluster) = (InMemoryRouter::new(SystemClock), InMemoryCluster::default());
    router.connect(agent("edge")?, cluster.clone());
    let store = Arc::new(InMemoryStore::new(Arc::new(SystemClock)));
    let plane = ControlPlane::new(store, router, renderer, SystemClock);
    let (running, tasks) = (plane.clone(), Tasks::new());
    tasks.spawn(|stop| async move {
        let _ = running.run(stop).await;
    });

    // Refused before anything is stored or applied.
    if let Err(refused) = deploy(&plane, &deploy_file("edge", "shop")).await {
        println!("refused: {refused}");
    }
    deploy(&plane, &deploy_file("edge", "shop:1")).await?;
    let rollout = ObjectRef::new("argoproj.io", "Rollout", "shop", "shop");
    let held = cluster.object(&rollout).ok_or("it was deployed")?;
    println!(
        "cost centre {}",
        held["metadata"]["labels"]["example.com/cost-centre"]
    );
    Ok(tasks.drain(std::time::Duration::from_secs(5)).await?)
}

#[cfg(test)]
mod laws {
    use super::{HouseRules, InMemoryRenderer};

    aurora_core::renderer_laws!(HouseRules {
        inner: InMemoryRenderer,
        cost_centre: "4711".to_owned()
    });
}
