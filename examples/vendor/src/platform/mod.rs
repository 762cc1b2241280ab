//! A platform that is not Kubernetes: a process supervisor on one machine, whose state is one file.

mod executor;
mod state;
mod workload;

pub use self::executor::SupervisorExecutor;
pub use self::state::{Held, Supervisor};
