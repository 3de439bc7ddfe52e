//! Views and reads as configuration declares them, made into what runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use event::{Fields, LogId};

use super::doors::spellings;
use crate::config::{
    Access, AmountRule, ColumnFrom, Config, CountedConfig, FromEnvelope, LedgerConfig, MessagePart,
    NotifyConfig, ReadConfig, ReadShape, Retention, RowTableConfig, StatsConfig, ViewConfig, ViewKindConfig,
};
use crate::serve::{Read, Shape};
use crate::store::RowsOf;
use crate::views::{
    Amount, CountedField, Given, Keep, Ledger, Notify, NotifyReads, Part, Reads, RowTable, Rule, Running,
    Source, Stats, View, ViewKind,
};

pub fn views(config: &Config) -> Vec<View> {
    let view = |(name, declared): (&String, &ViewConfig)| {
        let kind = match &declared.kind {
            ViewKindConfig::Ledger(declared) => ViewKind::Ledger(ledger(declared)),
            ViewKindConfig::Stats(declared) => ViewKind::Stats(stats(declared)),
            ViewKindConfig::Notify(declared) => ViewKind::Notify(notify(declared)),
            ViewKindConfig::Table(table) => {
                ViewKind::Table(row_table(table, &config.streams[&declared.stream].fields))
            }
        };
        View { name: name.clone(), stream: declared.stream.clone(), kind }
    };
    config.views.iter().map(view).collect()
}

/// For how long what is kept, of the views that run.
pub fn keep(declared: &Retention, views: &BTreeMap<String, Running>, log: LogId) -> Keep {
    let rows = declared.rows.iter().filter_map(|(view, keep)| {
        let table = views.get(view)?.view.row_table()?.table();
        Some((RowsOf { view: view.clone(), log, table: Arc::clone(table) }, *keep))
    });
    Keep {
        log: declared.log,
        log_bytes: declared.log_bytes,
        streams: declared.streams.clone(),
        rows: rows.collect(),
    }
}

fn ledger(declared: &LedgerConfig) -> Ledger {
    let amount = |(field, negative): (usize, bool)| Amount { field, negative };
    let rule = match &declared.rule {
        AmountRule::Always(field, negative) => Rule::Always(amount((*field, *negative))),
        AmountRule::By { field, amounts } => {
            let amounts = amounts.iter().map(|(text, rule)| (text.clone(), amount(*rule)));
            Rule::By { field: *field, amounts: amounts.collect() }
        }
    };
    let columns = [declared.key_column.as_str(), declared.amount_column.as_str()];
    Ledger::new(&declared.table, columns, declared.key, rule)
}

fn stats(declared: &StatsConfig) -> Stats {
    let counted = |counted: &CountedConfig| CountedField {
        field: counted.field,
        name: counted.name.clone(),
        distinct: counted.distinct,
    };
    let reads = Reads {
        group: declared.group,
        group_name: declared.group_name.clone(),
        distinct: declared.distinct,
        time: declared.time,
        counts: declared.counts.iter().map(counted).collect(),
    };
    Stats::new(&declared.table, reads)
}

fn row_table(declared: &RowTableConfig, fields: &Fields) -> RowTable {
    let given = |envelope: FromEnvelope| match envelope {
        FromEnvelope::Received => Given::Received,
        FromEnvelope::Id => Given::Id,
        FromEnvelope::Origin => Given::Origin,
    };
    let column = |(name, from): &(String, ColumnFrom)| {
        let source = match *from {
            ColumnFrom::Field { field, default } => Source::Field { field, default: default.map(given) },
            ColumnFrom::Envelope(envelope) => Source::Given(given(envelope)),
        };
        (name.clone(), source)
    };
    let columns: Vec<(String, Source)> = declared.columns.iter().map(column).collect();
    RowTable::new(&declared.table, &declared.id_column, &columns, fields)
}

fn notify(declared: &NotifyConfig) -> Notify {
    let part = |part: &MessagePart| match part {
        MessagePart::Words(words) => Part::Words(words.clone()),
        MessagePart::Field(field) => Part::Field(*field),
    };
    let reads = NotifyReads {
        to: declared.to,
        event_type: declared.event_type,
        payload: declared.payload,
        message: declared.message.iter().map(part).collect(),
        channel: declared.channel.clone(),
    };
    Notify::new(&declared.table, reads)
}

/// Views at the paths of contracts.
pub fn reads(config: &Config) -> Vec<Read> {
    let read = |declared: &ReadConfig| Read {
        paths: spellings(&declared.path),
        view: declared.view.clone(),
        open: declared.access == Access::Open,
        error_key: declared.error_key.clone(),
        shape: match &declared.shape {
            ReadShape::Row => Shape::Row,
            ReadShape::Stats { top } => Shape::Stats { top: top.clone() },
        },
    };
    config.reads.values().map(read).collect()
}
