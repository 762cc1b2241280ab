//! Rendered objects per second, beside reading and writing the same bytes as JSON.
//!
//! `--corpus FOLDER` (or `AURORA_CORPUS`) renders each application of a folder of manifests as well as
//! the generated ones.

#![expect(clippy::print_stdout, reason = "a measurement prints its figures")]

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aurora_core::deploy_file::read_manifests;
use aurora_core::manifest::{Manifest, Origin};
use aurora_core::port::renderer::{ManifestRenderer as _, RenderRequest};
use aurora_core::strategy::{Approval, Canary, Pause, Step, Strategy};
use aurora_core::tenant::Tenant;
use aurora_k8s::render::ArgoRenderer;
use clap::Parser;
use serde_json::{Value, json};

/// Rendered objects per second, beside reading and writing the same bytes as JSON.
#[derive(Debug, Parser)]
struct Args {
    /// How many objects are generated.
    #[arg(long, default_value_t = 10_000)]
    objects: usize,
    /// How many of them are one application.
    #[arg(long, default_value_t = 100)]
    together: usize,
    /// A folder with one folder of manifests for each application.
    #[arg(long, env = "AURORA_CORPUS")]
    corpus: Option<PathBuf>,
    /// Each figure is of at least so many seconds.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let during = Duration::from_secs_f64(args.seconds);
    println!(
        "{:<28} {:>8} {:>10} {:>12} {:>12} {:>7}",
        "", "objects", "KiB", "rendered/s", "JSON/s", "ratio"
    );
    let together = args.together.clamp(4, args.objects.max(4));
    let applications: Vec<RenderRequest> = (0..args.objects.div_ceil(together))
        .map(|index| request(&format!("app-{index}"), generated(index, together)))
        .collect::<Result<_>>()?;
    measure(&format!("generated, {together} together"), &applications, during)?;
    let at_once = request("all", generated(0, args.objects.max(4)))?;
    measure("generated, all at once", &[at_once], during)?;
    if let Some(corpus) = &args.corpus {
        for folder in folders(corpus)? {
            let name = folder
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            measure(&name, &[request(&name, manifests(&folder)?)?], during)?;
        }
    }
    Ok(())
}

/// Renders everything again and again, then does the same with JSON alone.
fn measure(name: &str, requests: &[RenderRequest], during: Duration) -> Result<()> {
    let bodies: Vec<&Value> = requests
        .iter()
        .flat_map(|request| request.manifests.iter().map(|manifest| &*manifest.body))
        .collect();
    let texts: Vec<Vec<u8>> = bodies.iter().map(serde_json::to_vec).collect::<Result<_, _>>()?;
    let bytes: usize = texts.iter().map(Vec::len).sum();
    let json = rate(during, bodies.len(), || {
        for text in &texts {
            let value: Value = serde_json::from_slice(black_box(text))?;
            black_box(serde_json::to_vec(&value)?);
        }
        Ok(())
    })?;
    let rendered = rate(during, bodies.len(), || {
        for request in requests {
            let plan = ArgoRenderer.render(black_box(request));
            let plan = plan.with_context(|| request.application.clone())?;
            black_box(plan.to_bytes());
        }
        Ok(())
    })?;
    println!(
        "{name:<28} {:>8} {:>10} {rendered:>12.0} {json:>12.0} {:>6.1}x",
        bodies.len(),
        bytes / 1024,
        json / rendered
    );
    Ok(())
}

fn rate(during: Duration, objects: usize, mut once: impl FnMut() -> Result<()>) -> Result<f64> {
    once()?;
    let (started, mut rounds) = (Instant::now(), 0_u32);
    while rounds == 0 || started.elapsed() < during {
        once()?;
        rounds += 1;
    }
    let objects = f64::from(u32::try_from(objects)?);
    Ok(f64::from(rounds) * objects / started.elapsed().as_secs_f64())
}

fn request(application: &str, manifests: Vec<Manifest>) -> Result<RenderRequest> {
    let steps = vec![
        Step::SetWeight(25),
        Step::Pause(Pause::Approval(Approval::default())),
        Step::SetWeight(50),
        Step::Pause(Pause::Approval(Approval::default())),
    ];
    Ok(RenderRequest {
        tenant: Tenant::new("bench", "main")?,
        application: application.to_owned(),
        target: "staging".to_owned(),
        namespace: Some(application.to_owned()),
        strategy: Some(Strategy::Canary(Canary { steps })),
        services: Vec::new(),
        manifests,
    })
}

/// As many objects as asked for: Deployments with a Service, a `ConfigMap` and an autoscaler each.
fn generated(seed: usize, objects: usize) -> Vec<Manifest> {
    let bodies = (0..objects.div_ceil(4)).flat_map(|index| four(&format!("web-{seed}-{index}"), index));
    let place = |(document, body)| {
        let origin = Origin {
            file: "generated.yaml".to_owned(),
            document,
            line: document * 30 + 1,
        };
        Manifest::new(body, origin)
    };
    bodies.take(objects).enumerate().map(place).collect()
}

fn four(name: &str, index: usize) -> [Value; 4] {
    let config = format!("{name}-settings");
    let container = json!({
        "name": "web",
        "image": format!("registry.example/shop/{name}:1.{index}"),
        "args": ["--port=8080", "--log=info"],
        "ports": [{"name": "http", "containerPort": 8080}, {"name": "metrics", "containerPort": 9090}],
        "env": [
            {"name": "LEVEL", "valueFrom": {"configMapKeyRef": {"name": config, "key": "level"}}},
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ],
        "envFrom": [{"configMapRef": {"name": config}}],
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": 1, "memory": "1024Mi"}},
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 5},
        "livenessProbe": {"tcpSocket": {"port": 8080}, "initialDelaySeconds": 10},
        "volumeMounts": [{"name": "settings", "mountPath": "/etc/shop"}],
        "securityContext": {"runAsNonRoot": true, "readOnlyRootFilesystem": true},
    });
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "labels": {"app": name, "team": "storefront"}},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": name}},
            "strategy": {"rollingUpdate": {"maxUnavailable": 0}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {
                    "containers": [container],
                    "volumes": [{"name": "settings", "configMap": {"name": config}}],
                },
            },
        },
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    });
    let settings = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": config},
        "data": {"level": "info", "shop.yaml": format!("currency: EUR\nregion: eu-{index}\npages: 20\n")},
    });
    let scaler = json!({
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": 2, "maxReplicas": 6,
        },
    });
    [deployment, service, settings, scaler]
}

fn folders(corpus: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(corpus).with_context(|| corpus.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn manifests(folder: &Path) -> Result<Vec<Manifest>> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    entries.sort();
    let mut found = Vec::new();
    for path in entries {
        if path.is_dir() {
            found.extend(manifests(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            let file = path.display().to_string();
            let read = read_manifests(&fs::read_to_string(&path)?, &file);
            found.extend(read.map_err(|problems| anyhow::anyhow!("{problems:?}"))?);
        }
    }
    Ok(found)
}
