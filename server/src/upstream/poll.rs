//! One poll, from its order to its outcome.

use luge_core::shard::{PollOrder, PollOutcome, Refusal, Token, Validation};

use super::{
    ask::{Denied, Homeserver, Identity},
    take::{Taken, Taker},
};

/// Polls once and has the ledger take in what comes. The outcome is known when
/// that is durable (INV-6).
pub async fn poll(homeserver: &Homeserver, taker: &Taker, order: &PollOrder) -> PollOutcome {
    let world = taker.ledger().world();
    let user_id = world.user_id(order.user).cloned();
    drop(world);
    let body = match homeserver.sync(order, user_id.as_deref()).await {
        Ok(body) => body,
        Err(outcome) => return outcome,
    };
    match taker.take(order, body, homeserver.limits()).await {
        Ok(None) => PollOutcome::Again,
        Ok(Some(Taken { since, silence })) => {
            if since.is_none() {
                tracing::warn!("a sync answer has no next_batch: polling again from where it was");
            }
            PollOutcome::Advanced { since, silence }
        }
        Err(reason) => {
            tracing::warn!(%reason, "a sync answer was set aside");
            let error = format!("the homeserver's sync answer cannot be used: {reason}");
            PollOutcome::Failed(Refusal::new(502, "M_UNKNOWN", &error))
        }
    }
}

/// Asks the homeserver whether a token is still `device_id`'s of `user_id`.
pub async fn validate(
    homeserver: &Homeserver,
    token: &Token,
    user_id: &str,
    device_id: &str,
) -> Validation {
    match homeserver.whoami(&token.secret).await {
        Ok(identity)
            if identity.user_id == user_id && identity.device_id.as_deref() == Some(device_id) =>
        {
            Validation::Valid
        }
        Ok(_) => Validation::Refused(Refusal::new(
            401,
            "M_UNKNOWN_TOKEN",
            "the access token is another device's now",
        )),
        Err(Denied::Refused(refusal)) => Validation::Refused(refusal),
        Err(Denied::Unknown(refusal)) => Validation::Unknown(refusal),
    }
}

impl Homeserver {
    /// Whose a token is.
    ///
    /// # Errors
    /// What to answer the client that brought it.
    pub async fn identify(&self, token: &str) -> Result<Identity, Refusal> {
        match self.whoami(token).await {
            Ok(identity) => Ok(identity),
            Err(Denied::Refused(refusal) | Denied::Unknown(refusal)) => Err(refusal),
        }
    }
}
