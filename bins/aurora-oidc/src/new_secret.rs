//! `aurora-oidc new-secret ID`: a client secret to hand out, and the hash to configure.

use std::io::{self, Write as _};
use std::process::ExitCode;

use aurora_bin::exit::Exit;
use serde_json::json;

/// Prints both as one line of JSON.
pub(crate) fn print(client: Option<&str>) -> ExitCode {
    let Some(client) = client.filter(|id| !id.is_empty() && !id.starts_with('-')) else {
        let _ = writeln!(
            io::stderr(),
            "aurora-oidc: write `aurora-oidc new-secret CLIENT_ID`; it prints the secret to hand out and the \
             secretHash to configure"
        );
        return Exit::Usage.into();
    };
    let made = match aurora_auth::issue::new_secret(client) {
        Ok(made) => made,
        Err(error) => {
            let _ = writeln!(io::stderr(), "aurora-oidc: {error}");
            return Exit::Failed.into();
        }
    };
    let line = json!({"clientId": client, "clientSecret": made.secret.expose(), "secretHash": made.hash});
    match writeln!(io::stdout(), "{line}") {
        Ok(()) => Exit::Succeeded.into(),
        Err(_) => Exit::Failed.into(),
    }
}
