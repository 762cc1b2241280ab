//! Starting by link: what was submitted before, deployed again.

use aurora_core::error::ErrorKind;
use aurora_core::id::PipelineId;
use http::HeaderMap;
use http::header::HeaderName;

use super::super::problem::Refusal;

/// Says where the deploy file of a start by link lies.
pub(in super::super) const CONFIG_LOCATION: HeaderName = HeaderName::from_static("x-armory-config-location");
/// Before the address of what an earlier run was started with.
const EARLIER: &str = "armory::";
