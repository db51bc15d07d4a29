//! What front mode saw go through, and what tokens turn out to be.

use super::{
    Effects, Refusal, Shard,
    event::{Effect, Hint, Token, Validation},
    request::Hold,
};
use crate::{
    id::{DeviceNumber, UserNumber},
    ledger::Command,
    view::View,
};

impl Shard {
    pub(super) fn on_hint(&mut self, user: UserNumber, hint: Hint, out: &mut Effects) {
        match hint {
            Hint::ClassicSync(device) => self.park(user, device, out),
            Hint::Purge(devices) => {
                for device in devices {
                    self.park(user, device, out);
                    // At once, and not when the ledger has come round to it:
                    // the homeserver is asked about any token that still comes.
                    if let Some(it) = self.device_mut(user, device) {
                        it.tokens.clear();
                    }
                    self.loads.doubt_tokens(user, device);
                    self.answer_where(user, device, &Refusal::logged_out(), out, |_| true);
                    out.push(Effect::Ledger(Command::Purge(device)));
                }
            }
            Hint::KeyCounts(device, counts) => {
                if let Some(it) = self.device_mut(user, device) {
                    it.record.one_time_keys_count = Some(counts.clone());
                    it.poller.note_news();
                }
                out.push(Effect::Ledger(Command::KeyCounts { device, counts }));
            }
            Hint::Forget(room) => out.push(Effect::Ledger(Command::Forget { user, room })),
        }
    }

    pub(super) fn on_validated(
        &mut self,
        user: UserNumber,
        device: DeviceNumber,
        token: &Token,
        validation: Validation,
        below: &dyn View,
        out: &mut Effects,
    ) {
        let now_ms = self.now_ms;
        let Some(it) = self.device_mut(user, device) else { return };
        let Some(known) = it.token_mut(&token.key) else { return };
        known.validating = false;
        match validation {
            Validation::Valid => {
                known.confirmed_ms = now_ms;
                self.admit_arrivals(user, device, token, below, out);
                self.ensure_polling(user, device, out);
                self.answer_held(user, below, out);
            }
            Validation::Refused(refusal) => {
                it.tokens.retain(|known| known.token.key != token.key);
                out.push(Effect::Ledger(Command::ForgetToken(token.key)));
                self.answer_where(user, device, &refusal, out, |held| held.token.key == token.key);
            }
            Validation::Unknown(refusal) => {
                self.answer_where(user, device, &refusal, out, |held| {
                    held.hold == Hold::Validation && held.token.key == token.key
                });
            }
        }
    }
}
