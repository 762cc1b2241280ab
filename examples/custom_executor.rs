//! A platform that is not Kubernetes: the control plane deploys to a process supervisor.
//!
//! The executor is `vendor/src/platform`: eight methods over a file. `executor_laws!` holds it to the
//! contract. Run it with `cargo run -p aurora-examples --bin custom_executor`.

#![expect(clippy::print_stdout, reason = "examples say what happens")]

use std::sync::Arc;

use aurora_core::control::ControlPlane;
use aurora_core::error::BoxError;
use aurora_core::manifest::ObjectRef;
use aurora_core::port::clock::SystemClock;
use aurora_core::port::renderer::InMemoryRenderer;
use aurora_core::port::router::InMemoryRouter;
use aurora_core::port::store::memory::InMemoryStore;
use aurora_core::tasks::Tasks;
use aurora_examples::platform::{Supervisor, SupervisorExecutor};
use aurora_examples::{agent, deploy, deploy_file};

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    // Your platform, and the executor that acts on it.
    let folder = tempfile::tempdir()?;
    let supervisor = Supervisor::in_folder(folder.path())?;
    let executor = SupervisorExecutor::new(supervisor.clone());

    // This router hands commands to executors of the same process; with `Hub` and `Agent` between them
    // (see `custom_transport`) nothing else changes.
    let router = InMemoryRouter::new(SystemClock);
    router.connect(agent("edge")?, executor);
    let store = Arc::new(InMemoryStore::new(Arc::new(SystemClock)));
    let plane = ControlPlane::new(store, router, InMemoryRenderer, SystemClock);
    let (running, tasks) = (plane.clone(), Tasks::new());
    tasks.spawn(|stop| async move {
        let _ = running.run(stop).await;
    });

    for image in ["shop:1", "shop:2", "shop:crash"] {
        println!("deploying {image}");
        deploy(&plane, &deploy_file("edge", image)).await?;
        let program = ObjectRef::new("argoproj.io", "Rollout", "shop", "shop");
        let held = supervisor
            .object(&program)?
            .ok_or("the supervisor runs nothing")?;
        let runs = &held.body["spec"]["template"]["spec"]["containers"][0]["image"];
        println!(
            "  the supervisor runs {runs}, declared {} time(s)",
            held.generation
        );
    }
    Ok(tasks.drain(std::time::Duration::from_secs(5)).await?)
}
