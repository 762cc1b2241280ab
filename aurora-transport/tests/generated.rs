//! The committed protocol code is what the compiler makes of the .proto files.
#![expect(clippy::unwrap_used, reason = "a test reports by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

/// Files that the compiler writes, and where they are committed.
const FILES: [&str; 2] = ["aurora.agent.v1.rs", "aurora.hub.v1.rs"];

#[test]
fn the_committed_code_is_what_the_protos_give() {
    let out = scratch("generated");
    generate(&out);
    for file in FILES {
        let made = fs::read_to_string(out.join(file)).unwrap();
        let held = fs::read_to_string(committed().join(file)).unwrap_or_default();
        assert!(
            made == held,
            "src/grpc/generated/{file} is not what proto/ gives; copy it from {}",
            out.display()
        );
    }
}

fn generate(out: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let protos = ["aurora/agent/v1/agent.proto", "aurora/hub/v1/hub.proto"];
    let files = protox::compile(protos.map(|proto| root.join(proto)), [&root]).unwrap();
    tonic_prost_build::configure()
        .build_transport(true)
        .server_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .btree_map(".")
        .bytes(".aurora.agent.v1.BlobChunk")
        .bytes(".aurora.hub.v1.BlobPiece")
        .emit_rerun_if_changed(false)
        .out_dir(out)
        .compile_fds(files)
        .unwrap();
}

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/grpc/generated")
}

fn scratch(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&dir).unwrap();
    dir
}
