//! What front mode sees go through and others may want to know.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{route::Route, token::AccessToken};

/// Something that went through. All but [`FrontHint::ClassicSync`] are told only once the
/// homeserver has said yes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrontHint {
    /// The device asks for a classic `/sync`; told before the answer, which may take a while.
    ClassicSync {
        /// Whose.
        token: AccessToken,
    },
    /// The device was logged out.
    LoggedOut {
        /// Whose.
        token: AccessToken,
    },
    /// All devices of the user were logged out.
    LoggedOutEverywhere {
        /// Whose.
        token: AccessToken,
    },
    /// Devices of the user are gone.
    DevicesDeleted {
        /// Whose; not necessarily one of the devices'.
        token: AccessToken,
        /// Which.
        device_ids: Vec<String>,
    },
    /// The account was deactivated.
    AccountClosed {
        /// Whose.
        token: AccessToken,
    },
    /// The password was changed and, with it, all devices but this one were logged out.
    PasswordChanged {
        /// Whose.
        token: AccessToken,
    },
    /// The homeserver's counts of one-time keys after an upload.
    KeyCounts {
        /// Whose.
        token: AccessToken,
        /// A JSON object, as the homeserver wrote it.
        counts: String,
    },
    /// The user forgot a room.
    Forgot {
        /// Whose.
        token: AccessToken,
        /// Which.
        room_id: String,
    },
    /// The user joined, left, was asked to, or made somebody else do so.
    MembershipChanged {
        /// Whose.
        token: AccessToken,
    },
    /// The device has a new token. Told only if the request bore the old one.
    Refreshed {
        /// The old one.
        token: AccessToken,
        /// The new one.
        new_token: AccessToken,
    },
}

/// What is known of an exchange that went well.
pub(super) struct Seen<'a> {
    pub(super) route: &'a Route,
    pub(super) token: Option<AccessToken>,
    /// The request's body, where it was read.
    pub(super) request: Option<Bytes>,
    /// The answer's body, where it was read.
    pub(super) answer: Option<Bytes>,
}

#[derive(Deserialize)]
struct DeletedDevices {
    devices: Vec<String>,
}

#[derive(Deserialize)]
struct ChangedPassword {
    logout_devices: Option<bool>,
}

#[derive(Deserialize)]
struct UploadedKeys<'a> {
    #[serde(borrow)]
    one_time_key_counts: &'a RawValue,
}

#[derive(Deserialize)]
struct Refreshed {
    access_token: String,
}

impl Seen<'_> {
    /// What to tell of it, if anything.
    pub(super) fn hint(&self) -> Option<FrontHint> {
        let token = self.token.clone()?;
        Some(match self.route {
            Route::Logout => FrontHint::LoggedOut { token },
            Route::LogoutEverywhere => FrontHint::LoggedOutEverywhere { token },
            Route::CloseAccount => FrontHint::AccountClosed { token },
            Route::Membership => FrontHint::MembershipChanged { token },
            Route::DeleteDevice(device) => {
                FrontHint::DevicesDeleted { token, device_ids: vec![device.clone()] }
            }
            Route::DeleteDevices => {
                let DeletedDevices { devices } = parsed(self.request.as_ref())?;
                FrontHint::DevicesDeleted { token, device_ids: devices }
            }
            Route::ChangePassword => {
                let asked: Option<ChangedPassword> = parsed(self.request.as_ref());
                // Logging the others out is what happens unless it is declined.
                let declined = asked.and_then(|asked| asked.logout_devices) == Some(false);
                return (!declined).then_some(FrontHint::PasswordChanged { token });
            }
            Route::UploadKeys => {
                let answer: UploadedKeys<'_> = parsed(self.answer.as_ref())?;
                let counts = answer.one_time_key_counts.get();
                if !counts.starts_with('{') {
                    return None;
                }
                FrontHint::KeyCounts { token, counts: counts.to_owned() }
            }
            Route::Refresh => {
                let Refreshed { access_token } = parsed(self.answer.as_ref())?;
                FrontHint::Refreshed { token, new_token: AccessToken::new(access_token) }
            }
            Route::Forget(room_id) => FrontHint::Forgot { token, room_id: room_id.clone() },
            Route::Versions
            | Route::WellKnown
            | Route::Login
            | Route::ClassicSync
            | Route::Paging
            | Route::Other => return None,
        })
    }
}

fn parsed<'a, T: Deserialize<'a>>(body: Option<&'a Bytes>) -> Option<T> {
    serde_json::from_slice(body?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hint(
        route: &Route,
        request: Option<&'static str>,
        answer: Option<&'static str>,
    ) -> Option<FrontHint> {
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        let token = Some(AccessToken::new("t"));
        Seen { route, token, request: request.map(bytes), answer: answer.map(bytes) }.hint()
    }

    #[test]
    fn password_change_is_told_unless_devices_stay_logged_in() {
        let token = AccessToken::new("t");
        let told = Some(FrontHint::PasswordChanged { token });
        let route = Route::ChangePassword;
        assert_eq!(hint(&route, Some(r#"{"new_password":"x"}"#), None), told);
        assert_eq!(hint(&route, Some(r#"{"logout_devices":true}"#), None), told);
        assert_eq!(hint(&route, Some(r#"{"logout_devices":false}"#), None), None);
        assert_eq!(hint(&route, None, None), told);
    }

    #[test]
    fn counts_that_are_no_object_are_not_told() {
        let answer = r#"{"x":1,"one_time_key_counts":{"signed_curve25519":50}}"#;
        let told = hint(&Route::UploadKeys, None, Some(answer));
        let Some(FrontHint::KeyCounts { counts, .. }) = told else { panic!("{told:?}") };
        assert_eq!(counts, r#"{"signed_curve25519":50}"#);
        for answer in [r#"{"one_time_key_counts":7}"#, "{}", "", "null"] {
            assert_eq!(hint(&Route::UploadKeys, None, Some(answer)), None, "{answer}");
        }
    }

    #[test]
    fn nothing_is_told_without_a_token() {
        let seen = Seen { route: &Route::Logout, token: None, request: None, answer: None };
        assert_eq!(seen.hint(), None);
    }
}
