//! The API as this program's user: the client, and what its refusals mean for the exit code.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use aurora_auth::token_source::ClientCredentials;
use aurora_core::id::PipelineId;
use aurora_core::port::clock::SystemClock;
use aurora_core::principal::ClientProduct;
use aurora_transport::http::{EgressRules, ReqwestCaller, Roots};
use aurora_transport::rest::client::{Client, ClientConfig, ClientError};

use crate::cli::Output;
use crate::context::Context;
use crate::print;
use aurora_bin::exit::Exit;

/// A client for the context that the user named, or the default one.
pub(crate) fn client(context_file: Option<&Path>) -> Result<Client> {
    client_of(&Context::read(context_file)?)
}

/// A client for a context.
pub(crate) fn client_of(context: &Context) -> Result<Client> {
    let config = ClientConfig {
        server: context.server.clone(),
        authorities: authorities(context).map(Into::into),
        product: ClientProduct {
            product: "aurora-cli".into(),
            version: env!("CARGO_PKG_VERSION").into(),
        },
    };
    let tokens = tokens_of(context)?;
    Ok(Client::try_new(config, Arc::new(tokens), Arc::new(SystemClock))?)
}

/// What gets tokens for a context's credential.
pub(crate) fn tokens_of(context: &Context) -> Result<ClientCredentials> {
    let roots = authorities(context).map_or(Roots::System, |pem| Roots::Only(pem.into()));
    // The user chose the issuer, so it may be on this machine or in a private network.
    let http = ReqwestCaller::new(anywhere()?, roots)?;
    let endpoint = format!("{}/oauth/token", context.issuer);
    Ok(ClientCredentials::new(
        Arc::new(http),
        endpoint,
        &context.client_id,
        context.secret(),
    )?)
}

fn authorities(context: &Context) -> Option<Vec<u8>> {
    let pem = &context.certificate_authority;
    (!pem.is_empty()).then(|| pem.clone().into_bytes())
}

/// No rule about where calls may go.
pub(crate) fn anywhere() -> Result<EgressRules> {
    Ok(EgressRules::public_only()
        .with_allowed("0.0.0.0/0".parse()?)
        .with_allowed("::/0".parse()?))
}

/// Reads a pipeline's id.
pub(crate) fn pipeline_id(text: &str) -> Result<PipelineId, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is not a pipeline's id; `aurora deploy list` shows them"))
}

/// Says why a request was refused, and gives the exit code for it.
pub(crate) fn refused(error: &ClientError, output: Output) -> Result<Exit> {
    let Some(body) = error.problem() else {
        let mut words = aurora_core::error::ErrorChain(error).to_string();
        if error.kind().is_transient() {
            words.push_str(
                "\n  is the server of this context running? `aurora up` is one, and `aurora doctor` looks",
            );
        }
        return print::failure(output, code(error), &words, Exit::Failed);
    };
    let exit = match body.status {
        409 => Exit::Held,
        400 | 404 | 413 | 415 | 422 => Exit::Usage,
        _ => Exit::Failed,
    };
    print::refusal(output, body, exit);
    Ok(exit)
}

/// A stable word for why there is no answer.
const fn code(error: &ClientError) -> &'static str {
    match error {
        ClientError::Invalid { .. } => "request.invalid",
        ClientError::Token { .. } => "token.unavailable",
        ClientError::Unreachable { .. } => "api.unreachable",
        ClientError::Unreadable { .. } => "answer.unreadable",
        _ => "failed",
    }
}
