//! `aurora sim`: a simulated cluster as a process of its own.

use anyhow::Result;
use tokio_util::sync::CancellationToken;

use crate::cli::{Output, SimArgs};
use crate::print;
use aurora_bin::cluster::Cluster;
use aurora_bin::exit::Exit;

/// Runs until told to stop.
pub(crate) async fn run(args: &SimArgs, output: Output, stop: CancellationToken) -> Result<Exit> {
    let name = args
        .state_dir
        .file_name()
        .map_or_else(|| "sim".into(), |name| name.to_string_lossy());
    let cluster = Cluster::start(&name, &args.state_dir, args.listen).await?;
    let kubeconfig = cluster.kubeconfig();
    if output == Output::Text {
        print::write(&format!(
            "simulated cluster `{name}` listens on https://{}\n  kubectl --kubeconfig {} get rollouts --all-namespaces\n",
            cluster.address(),
            kubeconfig.display(),
        ))?;
    } else {
        print::event(
            output,
            &serde_json::json!({
                "type": "cluster", "name": name, "address": cluster.address().to_string(), "kubeconfig": kubeconfig,
            }),
        )?;
    }
    stop.cancelled().await;
    cluster.stop().await?;
    Ok(Exit::Succeeded)
}
