//! The table of routes.

use axum::routing::{MethodRouter, delete, get, post, put};
use http::Method;

use super::{
    Api, acts, applications, approvals, audit, compat, events, fleet, impact, list, openapi, pipelines,
    plans, submit,
};

/// One route: the tests go through all of them.
pub(super) struct Route {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) handler: MethodRouter<Api>,
}

/// Every route there is.
pub(super) fn routes() -> Vec<Route> {
    let read = |path, handler| Route {
        method: Method::GET,
        path,
        handler,
    };
    let write = |path, handler| Route {
        method: Method::POST,
        path,
        handler,
    };
    let other = |method, path, handler| Route {
        method,
        path,
        handler,
    };
    vec![
        write("/pipelines", post(submit::submit)),
        write("/pipelines/kubernetes", post(submit::submit)),
        write("/pipelines/{id}/actions/{action}", post(acts::act)),
        read("/pipelines/{id}/actions/{action}/impact", get(impact::impact)),
        read("/pipelines", get(list::list)),
        read("/pipelines/{id}", get(pipelines::status)),
        read("/pipelines/{id}/view", get(pipelines::view)),
        read(
            "/pipelines/{id}/targets/{target}/view",
            get(pipelines::target_view),
        ),
        read("/pipelines/{id}/targets/{target}/history", get(plans::history)),
        read("/pipelines/{id}/targets/{target}/plan", get(plans::plan)),
        read(
            "/pipelines/{id}/targets/{target}/plan/objects/{digest}",
            get(plans::object),
        ),
        read("/diff", get(plans::diff)),
        read("/approvals", get(approvals::approvals)),
        read("/applications", get(applications::applications)),
        read("/applications/{application}", get(applications::application)),
        read("/audit", get(audit::audit)),
        read(openapi::PATH, get(openapi::serve)),
        read("/pipelines/{id}/timeline", get(pipelines::timeline)),
        read("/pipelines/{id}/evidence", get(pipelines::evidence)),
        read(
            "/pipelines/{id}/evidence/{evidence}",
            get(pipelines::one_evidence),
        ),
        read("/pipelines/{id}/events", get(events::pipeline_events)),
        read("/events", get(events::tenant_events)),
        read("/agents", get(fleet::agents)),
        read("/agents/{agent}", get(fleet::agent)),
        read("/accounts", get(fleet::accounts)),
        read("/identity/connected-agents", get(fleet::connected)),
        read("/me", get(compat::me)),
        // What only clients of the older product ask for.
        read("/pipelines/{id}/config", get(compat::config)),
        read("/deployments/{id}", get(compat::deployment)),
        read("/deploy-engine/deployments/{id}", get(compat::deployment)),
        write("/v1/graphql", post(compat::queue)),
        read("/environments", get(compat::environments)),
        write("/environments", post(compat::later)),
        read("/roles", get(compat::roles)),
        write("/roles", post(compat::later)),
        other(Method::PUT, "/roles/{id}", put(compat::later)),
        other(Method::DELETE, "/roles/{id}", delete(compat::later)),
        read("/credentials", get(compat::credentials)),
        write("/credentials", post(compat::later)),
        other(Method::DELETE, "/credentials/{id}", delete(compat::later)),
        read("/credentials/{id}/roles", get(compat::later)),
        other(Method::PUT, "/credentials/{id}/roles", put(compat::later)),
    ]
}
