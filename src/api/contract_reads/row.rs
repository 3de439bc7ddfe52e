//! The read of contract 1, `GET /userEvents/:userId`: an array of one row, as the table has it.

use serde_json::json;

use super::super::JsonText;
use super::ContractReader;
use crate::http::ApiError;

pub async fn read(reader: ContractReader) -> Result<JsonText, ApiError> {
    let ContractReader { api, read, row: key } = &reader;
    let unknown = || ApiError::not_found(format!("No data found for user: {key}"));
    let ledger = reader.view().view.ledger().ok_or_else(unknown)?;
    let balance = ledger.balance(&api.store, key).await;
    let balance = api.rows_of(&read.view, balance).await?.ok_or_else(unknown)?;
    let [key_column, amount_column] = ledger.columns().map(|name| json!(name));
    // The amount as its exact digits: a float would round it.
    let (key, amount) = (json!(balance.key), balance.amount);
    Ok(JsonText(format!("[{{{key_column}:{key},{amount_column}:{amount}}}]")))
}
