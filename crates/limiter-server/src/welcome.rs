//! The text of a server at its start: its address, the admin key once, and calls to try.

use std::net::SocketAddr;

use crate::config::Settings;
use crate::engine::Admin;

pub(crate) fn text(address: SocketAddr, settings: &Settings, admin: &Admin) -> String {
    let url = format!("http://{address}");
    let store = match (&settings.redis, &settings.state) {
        (Some(_), _) => "keys and counts are in Redis".to_owned(),
        (None, Some(path)) => {
            format!("keys and counts are in memory, and kept over restarts in {}", path.display())
        }
        (None, None) => {
            "keys and counts are in memory: a restart forgets everything (--state FILE keeps them)"
                .to_owned()
        }
    };
    let workspace = &settings.workspace;
    let key = match admin {
        Admin::Made(access_key) => {
            format!(
                "The admin key of the workspace {workspace:?}, shown this once:\n\n  export TEAM_API_KEY={}\n",
                access_key.expose()
            )
        }
        Admin::Brought => {
            format!(
                "The admin key of the workspace {workspace:?} is that of LIMITER_ADMIN_KEY:\n\n  export TEAM_API_KEY=\"$LIMITER_ADMIN_KEY\"\n"
            )
        }
        Admin::NotShown => format!(
            "The workspace {workspace:?} has keys already: use the admin key that was shown when it was new\n\
             (LIMITER_ADMIN_KEY checks at the start that it still works).\n\n  export TEAM_API_KEY=…\n"
        ),
    };
    format!(
        "\
limiter-server {version} listens on {url}; {store}.
TLS is left to a proxy in front.

{key}
Try it with curl:

  curl -H \"x-api-key: $TEAM_API_KEY\" -d '{{\"name\":\"ci\",\"globalLimits\":{{\"rpm\":2}}}}' {url}/sdk/api-keys
  export KEY=…       # the accessKey of the answer, shown once too
  curl -H \"x-api-key: $KEY\" -d '{{\"text\":\"Hello\"}}' {url}/api/v2/execute/669a63646eb56306647e1091
  curl -H \"x-api-key: $KEY\" -d '{{\"charge\":{{\"input_tokens\":12,\"output_tokens\":30}}}}' {url}/v1/check

Or with the aiXplain SDK (pip install aixplain):

  export AIXPLAIN_ALLOW_INSECURE_URLS=1
  export BACKEND_URL={url}
  export MODELS_RUN_URL={url}/api/v2/execute
  python3 -c 'from aixplain import Aixplain; print(Aixplain().APIKey.list())'

The engine's API is described at {url}/openapi.json.
",
        version = env!("CARGO_PKG_VERSION"),
    )
}
