//! PostgreSQL as the store: one connection, and the verbs as this database carries them out.

use crate::store::StoreError;
use crate::store::remote::Begin;
use crate::store::rows::Rows;
use crate::store::tables::{Cell, Table};

pub struct Server {}
pub struct Session {}

impl Server {
    pub fn parse(_url: &str, _password: Option<&str>) -> Result<Self, String> {
        Err("not yet".to_owned())
    }
    pub fn name(&self) -> String {
        String::new()
    }
    pub async fn connect(&self) -> Result<Session, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn look(&self) -> Result<Vec<String>, StoreError> {
        Err(StoreError::Closed)
    }
}

impl Session {
    pub async fn begin(&mut self, _: Begin) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn commit(&mut self) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn rollback(&mut self) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn rows(&mut self, _: &str, _: &[Cell]) -> Result<Vec<Vec<Cell>>, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn change(&mut self, _: &str, _: &[Cell]) -> Result<u64, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn lock(&mut self, _: &str) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn unlock(&mut self, _: &str) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn add(&mut self, _: &Table, _: &[Cell]) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn insert_new(&mut self, _: &Table, _: &[Cell]) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn put(&mut self, _: &Table, _: &[Cell]) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn remove(&mut self, _: &Table, _: &[Cell]) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn found(&mut self, _: &Table, _: &[Cell]) -> Result<Vec<Vec<Cell>>, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn neighbours(
        &mut self,
        _: &Table,
        _: &[Cell],
    ) -> Result<Vec<(Option<i64>, Option<i64>)>, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn number(&mut self, _: &Table, _: &Rows) -> Result<Vec<i64>, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn mend(&mut self, _: &Table, _: &[i64], _: &Rows) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn delete_numbers(&mut self, _: &Table, _: &[i64]) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn exists(&mut self, _: &str) -> Result<bool, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn check(&mut self, _: &Table) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn create(&mut self, _: &Table) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn index(&mut self, _: &str, _: &str, _: &[&str]) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn widen(&mut self, _: &Table) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn drop_tables(&mut self, _: &[Table]) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn put_in_place(&mut self, _: &[Table], _: &[Table]) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
}
