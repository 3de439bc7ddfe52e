//! Checks the configured store without changing it, for `millrace config check --store` and the like.

use std::path::Path;

use super::Config;
use crate::store::{self, Password, StoreInspection, inspect_store};

impl Config {
    /// Returns what is wrong with the existing tables of all declared views. Creates nothing in the database, not even
    /// millrace's own tables. `data` is the data folder, which contains the SQLite file by default. Fails if the store
    /// cannot be reached, or if millrace cannot use it at all.
    pub async fn inspect_store(&self, data: &Path) -> Result<StoreInspection, store::OpenError> {
        let password = Password::new(self.store.password.clone());
        let views: Vec<_> = self.views.iter().map(|(name, view)| (name.clone(), view.tables())).collect();
        inspect_store(&self.store.url, &password, data, &views).await
    }
}
