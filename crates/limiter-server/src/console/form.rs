//! Forms: their bodies, and the token that shows that a page of the session sent them.

use std::sync::Arc;

use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::session::Operator;
use crate::app::App;
use crate::body::Whole;
use crate::refusal::Refusal;

/// The fields of a form that a page of the operator's session sent.
#[derive(Debug)]
pub(super) struct Form<T>(pub(super) T);

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    form_token: String,
}

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Form<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, _: &Arc<App>) -> Result<Self, Refusal> {
        let extensions = request.extensions();
        let operator = extensions.get::<Operator>().ok_or_else(Refusal::unknown_key)?;
        let body = extensions.get::<Whole>().map(|Whole(body)| &**body).unwrap_or_default();
        let Token { form_token } = read(body)?;
        if !operator.0.has_form_token(&form_token) {
            let message = "this form is not from a page of your session: open the page again, and send it from there";
            return Err(Refusal::new(StatusCode::FORBIDDEN, "forged_form", message));
        }
        read(body).map(Self)
    }
}

/// Reads the fields of a form. Fields that are not known are ignored.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_urlencoded::from_bytes(body)
        .map_err(|error| Refusal::malformed(format!("the form cannot be read: {error}")))
}
