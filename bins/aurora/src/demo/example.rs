//! The example application that the demo deploys, as it stands under `examples/lanterns`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

/// One version of the example: its folder's name and the files in it.
#[derive(Debug)]
pub(crate) struct Example {
    name: &'static str,
    files: &'static [(&'static str, &'static str)],
}

macro_rules! example {
    ($folder:literal) => {
        Example {
            name: $folder,
            files: &[
                (
                    "deploy.yaml",
                    include_str!(concat!("../../../../examples/lanterns/", $folder, "/deploy.yaml")),
                ),
                (
                    "manifests/namespace.yaml",
                    include_str!(concat!(
                        "../../../../examples/lanterns/",
                        $folder,
                        "/manifests/namespace.yaml"
                    )),
                ),
                (
                    "manifests/orders.yaml",
                    include_str!(concat!(
                        "../../../../examples/lanterns/",
                        $folder,
                        "/manifests/orders.yaml"
                    )),
                ),
                (
                    "manifests/web.yaml",
                    include_str!(concat!(
                        "../../../../examples/lanterns/",
                        $folder,
                        "/manifests/web.yaml"
                    )),
                ),
            ],
        }
    };
}

/// Version 1.
pub(crate) const V1: Example = example!("v1");

/// Version 2.
pub(crate) const V2: Example = example!("v2");

/// Version 2 whose web server crashes.
pub(crate) const V2_BROKEN: Example = example!("v2-broken");

impl Example {
    /// Writes it below a folder and names its deploy file.
    pub(crate) fn write(&self, below: &Path) -> Result<PathBuf> {
        let folder = below.join(self.name);
        for (name, text) in self.files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap_or(&folder))?;
            fs::write(path, text)?;
        }
        Ok(folder.join("deploy.yaml"))
    }
}
