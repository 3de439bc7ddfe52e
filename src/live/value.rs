//! Present values of views, as subscribers get them: read from the database together with the position of the view.

use std::sync::Arc;

use event::limits::NOTIFICATIONS_WATCHED_MAX;
use serde::Serialize;
use serde_json::json;

use super::cursor::Cursor;
use crate::store::{Cell, NotificationStatus, Select, Store, StoreError};
use crate::views::{
    GroupStats, Ledger, NotificationBody, Notifications, Stats, StatsParameters, View, ViewKind,
};

/// One value of a view.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ValueQuery {
    Balance {
        key: Arc<str>,
    },
    Statistics {
        group: Arc<str>,
        parameters: StatsParameters,
    },
    Notification {
        id: Arc<str>,
    },
    /// The newest notifications, all of them or those with a status.
    NotificationList {
        status: Option<NotificationStatus>,
    },
}

/// Values that were read in one transaction.
pub struct Values {
    /// The JSON of each value, in the order of the queries.
    pub contents: Vec<String>,
    pub place: Cursor,
}

type Answers = std::vec::IntoIter<Vec<Vec<Cell>>>;

impl ValueQuery {
    /// Returns the row whose changes change the value; `None` if any row does.
    pub fn row(&self) -> Option<&Arc<str>> {
        match self {
            Self::Balance { key: row }
            | Self::Statistics { group: row, .. }
            | Self::Notification { id: row } => Some(row),
            Self::NotificationList { .. } => None,
        }
    }
}

/// Reads values of one view. Before the view has begun, its rows do not exist.
pub async fn read(store: &Store, view: &View, queries: &[&ValueQuery]) -> Result<Values, StoreError> {
    let selects = queries.iter().flat_map(|query| selects(store, view, query)).collect();
    let read = store.rows_with_positions(&view.name, selects).await;
    let (answers, positions) = store.nothing_until_begun(&view.name, read).await?;
    let mut answers = answers.into_iter();
    let contents =
        queries.iter().map(|query| content(view, query, &mut answers)).collect::<Result<_, _>>()?;
    Ok(Values { contents, place: Cursor::after(&positions) })
}

fn selects(store: &Store, view: &View, query: &ValueQuery) -> Vec<Select> {
    match (&view.kind, query) {
        (ViewKind::Ledger(ledger), ValueQuery::Balance { key }) => vec![ledger.select(key)],
        (ViewKind::Stats(stats), ValueQuery::Statistics { group, parameters }) => {
            parameters.query(stats, group).map(|query| stats.selects(store, &query)).unwrap_or_default()
        }
        (ViewKind::Notifications(notifications), ValueQuery::Notification { id }) => {
            vec![notifications.select_one(id)]
        }
        (ViewKind::Notifications(notifications), ValueQuery::NotificationList { status }) => {
            vec![notifications.select_newest(*status, NOTIFICATIONS_WATCHED_MAX)]
        }
        _ => Vec::new(),
    }
}

fn content(view: &View, query: &ValueQuery, answers: &mut Answers) -> Result<String, StoreError> {
    let name = &view.name;
    match (&view.kind, query) {
        (ViewKind::Ledger(ledger), ValueQuery::Balance { key }) => balance(name, ledger, key, answers),
        (ViewKind::Stats(stats), ValueQuery::Statistics { group, parameters }) => {
            statistics(name, stats, group, parameters, answers)
        }
        (ViewKind::Notifications(notifications), ValueQuery::Notification { id }) => {
            notification(name, notifications, id, answers)
        }
        (ViewKind::Notifications(notifications), ValueQuery::NotificationList { .. }) => {
            let all = notifications.read_all(answers.next().unwrap_or_default())?;
            let notifications = all.into_iter().map(NotificationBody::from).collect();
            Ok(json_text(&NotificationList { view: name, notifications }))
        }
        _ => Err(StoreError::Blocked(format!("view `{name}` has no such value"))),
    }
}

/// The amount keeps all its digits, which a float would not.
fn balance(view: &str, ledger: &Ledger, key: &str, answers: &mut Answers) -> Result<String, StoreError> {
    let balance = ledger.balance_of(answers.next().unwrap_or_default())?;
    let amount = balance.map_or_else(|| "null".to_owned(), |balance| balance.amount.to_string());
    Ok(format!(r#"{{"view":{},"key":{},"balance":{amount}}}"#, json!(view), json!(key)))
}

fn statistics(
    view: &str,
    stats: &Stats,
    group: &str,
    parameters: &StatsParameters,
    answers: &mut Answers,
) -> Result<String, StoreError> {
    let query = parameters.query(stats, group).map_err(|error| StoreError::Blocked(error.to_string()))?;
    let summary = stats.summary_of(&query, answers)?;
    Ok(json_text(&OfView { view, value: GroupStats::new(stats, &query, summary) }))
}

fn notification(
    view: &str,
    notifications: &Notifications,
    id: &str,
    answers: &mut Answers,
) -> Result<String, StoreError> {
    let found = notifications.read_all(answers.next().unwrap_or_default())?.into_iter().next();
    Ok(match found {
        Some(found) => json_text(&OfView { view, value: NotificationBody::from(found) }),
        None => json!({ "view": view, "id": id, "status": null }).to_string(),
    })
}

#[derive(Serialize)]
struct OfView<'a, T> {
    view: &'a str,
    #[serde(flatten)]
    value: T,
}

#[derive(Serialize)]
struct NotificationList<'a> {
    view: &'a str,
    notifications: Vec<NotificationBody>,
}

fn json_text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("texts and numbers are serializable")
}
