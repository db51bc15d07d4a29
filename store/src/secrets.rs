//! Access tokens at rest (INV-10): encrypted, and found by a keyed hash.
//!
//! One secret, from a file in the data folder or from the operator, gives both
//! keys. Nothing here can be printed but its name.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use ring::{
    aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    hkdf, hmac,
    rand::{SecureRandom, SystemRandom},
};

/// How long the secret in a data folder is, and how long one that is handed in
/// must be at least.
pub const SECRET_BYTES: usize = 32;

/// The first byte of an encrypted token, which is authenticated with it.
const FORMAT_VERSION: u8 = 1;
const SECRET_FILE: &str = "secret";
const SECRET_FILE_UNFINISHED: &str = "secret.new";

/// Why a secret could not be had, or a token not be turned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The file could not be read or written.
    #[error("cannot read or create {}: check its owner and the disk", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not one that luge wrote.
    #[error(
        "{} does not hold {SECRET_BYTES} bytes: restore it from a backup, or remove it, after which each token is unknown until a client brings it again",
        path.display()
    )]
    FileLength {
        /// The file.
        path: PathBuf,
    },
    /// The secret that was handed in can be guessed.
    #[error(
        "the secret has {found} bytes, at least {SECRET_BYTES} are needed: make one with `openssl rand -hex 32`"
    )]
    TooShort {
        /// Its length.
        found: usize,
    },
    /// The system gave no random bytes.
    #[error("the system gives no random numbers: check that getrandom or /dev/urandom is allowed")]
    Random,
    /// Encrypted under another secret, or changed since.
    #[error("a stored token cannot be decrypted: it belongs to another secret, or is damaged")]
    Undecryptable,
}

/// The two keys. To be opened after the store, whose lock keeps another process
/// from creating the secret at the same time.
pub struct Secrets {
    lookup: hmac::Key,
    encryption: LessSafeKey,
    random: SystemRandom,
}

impl Secrets {
    /// From the file `secret` in the data folder, which is created where there
    /// is none.
    pub fn open(folder: &Path) -> Result<Self, SecretError> {
        let path = folder.join(SECRET_FILE);
        let explain = |source| SecretError::File { path: path.clone(), source };
        match File::open(&path) {
            Ok(file) => {
                let mode = file.metadata().map_err(explain)?.mode();
                if mode & 0o077 != 0 {
                    tracing::warn!(path = %path.display(), "secret is open to others: chmod 600");
                }
                let mut secret = Vec::with_capacity(SECRET_BYTES + 1);
                let mut file = file.take(SECRET_BYTES as u64 + 1);
                file.read_to_end(&mut secret).map_err(explain)?;
                if secret.len() != SECRET_BYTES {
                    return Err(SecretError::FileLength { path });
                }
                Self::from_bytes(&secret)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut secret = [0; SECRET_BYTES];
                SystemRandom::new().fill(&mut secret).map_err(|_| SecretError::Random)?;
                create(folder, &secret).map_err(explain)?;
                Self::from_bytes(&secret)
            }
            Err(error) => Err(explain(error)),
        }
    }

    /// From what the operator hands in.
    pub fn from_bytes(secret: &[u8]) -> Result<Self, SecretError> {
        if secret.len() < SECRET_BYTES {
            return Err(SecretError::TooShort { found: secret.len() });
        }
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"luge access tokens");
        let base = salt.extract(secret);
        let lookup = expand(&base, b"lookup", hmac::HMAC_SHA256)?;
        let encryption: UnboundKey = expand(&base, b"encryption", &CHACHA20_POLY1305)?;
        Ok(Self { lookup, encryption: LessSafeKey::new(encryption), random: SystemRandom::new() })
    }

    /// Under which key a token is found.
    pub fn lookup_key(&self, token: &str) -> [u8; 32] {
        let tag = hmac::sign(&self.lookup, token.as_bytes());
        tag.as_ref().try_into().expect("HMAC-SHA-256 gives 32 bytes")
    }

    /// `[version][nonce][ciphertext and tag]`, different each time.
    pub fn encrypt(&self, token: &str) -> Result<Vec<u8>, SecretError> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| SecretError::Random)?;
        let mut sealed = token.as_bytes().to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        let aad = Aad::from([FORMAT_VERSION]);
        let encrypted = self.encryption.seal_in_place_append_tag(unique, aad, &mut sealed);
        // ring refuses only what exceeds its limit of 256 GiB.
        encrypted.map_err(|_| SecretError::Undecryptable)?;
        Ok([&[FORMAT_VERSION][..], &nonce, &sealed].concat())
    }

    /// The token that was encrypted.
    pub fn decrypt(&self, encrypted: &[u8]) -> Result<String, SecretError> {
        let parts = encrypted.split_first_chunk().and_then(|(version, rest)| {
            let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
            (*version == [FORMAT_VERSION]).then_some((*nonce, sealed))
        });
        let (nonce, sealed) = parts.ok_or(SecretError::Undecryptable)?;
        let mut opened = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let aad = Aad::from([FORMAT_VERSION]);
        let token = self.encryption.open_in_place(nonce, aad, &mut opened);
        let token = token.map_err(|_| SecretError::Undecryptable)?.to_vec();
        String::from_utf8(token).map_err(|_| SecretError::Undecryptable)
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secrets(..)")
    }
}

fn expand<L, K>(base: &hkdf::Prk, purpose: &[u8], length: L) -> Result<K, SecretError>
where
    L: hkdf::KeyType,
    K: for<'a> From<hkdf::Okm<'a, L>>,
{
    let purpose = [purpose];
    let okm = base.expand(&purpose, length);
    // Refused only for more than 255 blocks; both keys are one.
    okm.map(K::from).map_err(|_| SecretError::Random)
}

/// Writes the secret so that the file is there whole, or not at all.
fn create(folder: &Path, secret: &[u8]) -> io::Result<()> {
    let unfinished = folder.join(SECRET_FILE_UNFINISHED);
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(secret)?;
    file.sync_all()?;
    fs::rename(&unfinished, folder.join(SECRET_FILE))?;
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "syt_YWxpY2U_secretsecretsecret_0000";

    fn secrets(byte: u8) -> Secrets {
        Secrets::from_bytes(&[byte; SECRET_BYTES]).unwrap()
    }

    #[test]
    fn token_comes_back_and_is_not_visible_in_between() {
        let secrets = secrets(1);
        for token in ["", TOKEN, "ünïcode"] {
            let encrypted = secrets.encrypt(token).unwrap();
            assert_eq!(secrets.decrypt(&encrypted).unwrap(), token);
            assert_ne!(encrypted, secrets.encrypt(token).unwrap());
        }
        let encrypted = secrets.encrypt(TOKEN).unwrap();
        assert!(
            !encrypted
                .windows(6)
                .any(|window| TOKEN.as_bytes().windows(6).any(|part| part == window))
        );
    }

    #[test]
    fn changed_cut_or_foreign_ciphertext_is_refused() {
        let encrypted = secrets(1).encrypt(TOKEN).unwrap();
        for bit in 0..encrypted.len() * 8 {
            let mut changed = encrypted.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(secrets(1).decrypt(&changed).is_err(), "bit {bit}");
        }
        for length in 0..encrypted.len() {
            assert!(secrets(1).decrypt(&encrypted[..length]).is_err(), "{length} bytes");
        }
        assert!(secrets(2).decrypt(&encrypted).is_err());
    }

    #[test]
    fn lookup_depends_on_token_and_secret_only() {
        assert_eq!(secrets(1).lookup_key(TOKEN), secrets(1).lookup_key(TOKEN));
        assert_ne!(secrets(1).lookup_key(TOKEN), secrets(2).lookup_key(TOKEN));
        assert_ne!(secrets(1).lookup_key(TOKEN), secrets(1).lookup_key("another"));
    }

    #[test]
    fn folder_keeps_its_secret_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(SECRET_FILE_UNFINISHED), b"left by a crash").unwrap();
        let first = Secrets::open(folder.path()).unwrap();
        let again = Secrets::open(folder.path()).unwrap();
        assert_eq!(again.decrypt(&first.encrypt(TOKEN).unwrap()).unwrap(), TOKEN);
        let metadata = fs::metadata(folder.path().join(SECRET_FILE)).unwrap();
        assert_eq!((metadata.len(), metadata.mode() & 0o777), (SECRET_BYTES as u64, 0o600));
        assert!(!folder.path().join(SECRET_FILE_UNFINISHED).exists());
        let other = tempfile::tempdir().unwrap();
        let other = Secrets::open(other.path()).unwrap();
        assert_ne!(other.lookup_key(TOKEN), first.lookup_key(TOKEN));
    }

    #[test]
    fn secret_of_the_wrong_length_is_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        for length in [0, SECRET_BYTES - 1, SECRET_BYTES + 1] {
            let path = folder.path().join(SECRET_FILE);
            fs::write(&path, vec![7; length]).unwrap();
            let error = Secrets::open(folder.path()).unwrap_err();
            assert!(matches!(error, SecretError::FileLength { .. }), "{error}");
            assert_eq!(fs::read(&path).unwrap().len(), length);
        }
        let error = Secrets::from_bytes(&[1; SECRET_BYTES - 1]).unwrap_err();
        assert!(matches!(error, SecretError::TooShort { .. }), "{error}");
    }

    #[test]
    fn nothing_secret_is_printed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(SECRET_FILE), [b'S'; SECRET_BYTES]).unwrap();
        let secrets = Secrets::open(folder.path()).unwrap();
        assert_eq!(format!("{secrets:?} {secrets:#?}"), "Secrets(..) Secrets(..)");
        fs::write(folder.path().join(SECRET_FILE), [b'S'; SECRET_BYTES - 1]).unwrap();
        let error = Secrets::open(folder.path()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("SSSS"));
        let error = secrets.decrypt(&[FORMAT_VERSION; 60]).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(TOKEN));
    }
}
