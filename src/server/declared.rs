//! Views and reads as configuration declares them, made into what runs.

use super::doorway::ContractPath;
use crate::config::{
    Access, AmountRule, Config, CountedConfig, LedgerConfig, ReadConfig, ReadShape, StatsConfig, ViewConfig,
    ViewKindConfig,
};
use crate::serve::{Read, Shape};
use crate::views::{Amount, CountedField, Ledger, Reads, Rule, Stats, View, ViewKind};

pub fn views(config: &Config) -> Vec<View> {
    let view = |(name, declared): (&String, &ViewConfig)| {
        let kind = match &declared.kind {
            ViewKindConfig::Ledger(declared) => ViewKind::Ledger(ledger(declared)),
            ViewKindConfig::Stats(declared) => ViewKind::Stats(stats(declared)),
        };
        View { name: name.clone(), stream: declared.stream.clone(), kind }
    };
    config.views.iter().map(view).collect()
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

/// Views at the paths of contracts.
pub fn reads(config: &Config) -> Vec<Read> {
    let read = |declared: &ReadConfig| Read {
        path: declared.path.clone(),
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

/// Where clients of contracts are answered, as the doorway has to know it before any route.
pub fn contract_paths(config: &Config) -> Vec<ContractPath> {
    let door = config.live_event.iter().map(|door| ContractPath::new("/liveEvent", "error", door.access));
    let reads = config.reads.values();
    door.chain(reads.map(|read| ContractPath::new(&read.path, &read.error_key, read.access))).collect()
}
