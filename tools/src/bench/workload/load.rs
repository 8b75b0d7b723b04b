//! New items, each put and then stocked: how fast a catalogue is loaded, and what memory an item takes.

use std::collections::VecDeque;

use cartwright_protocol::Sku;
use cartwright_protocol::native::encode_request;

use super::items::{item_put, stock_add};
use super::order::put_words;
use super::{Division, Workload, WorkloadError, needs_shop};
use crate::bench::answer::{Answer, Wire};
use crate::bench::source::{Source, Tag, Tally};
use crate::bench::target::Target;
use crate::text::grouped;

const PUT: u8 = 0;
const STOCK: u8 = 1;

/// Units that each item is stocked with.
const UNITS: u64 = 1_000;

struct Catalogue {
    wire: Wire,
    run: u32,
    worker: usize,
    next_item: u32,
    left: u64,
    /// Items that are there and have no stock yet.
    following: VecDeque<u32>,
    tally: Tally,
}

impl Catalogue {
    /// A name as long as shops have them, and new in every run.
    fn sku(&self, item: u32) -> Sku {
        let Self { run, worker, .. } = self;
        Sku::new(format!("{run:x}-{worker}-{item}").as_bytes()).expect("digits and dashes are a SKU")
    }

    fn put(&self, output: &mut Vec<u8>, request_id: u64, item: u32) {
        let sku = self.sku(item);
        match self.wire {
            Wire::Native => encode_request(output, request_id, &item_put(sku, item as usize)),
            Wire::Resp => put_words(output, &[b"ITEM.PUT", sku.as_bytes(), b"1275", b"GBP"]),
        }
    }

    fn stock(&self, output: &mut Vec<u8>, request_id: u64, item: u32) {
        let sku = self.sku(item);
        match self.wire {
            Wire::Native => encode_request(output, request_id, &stock_add(sku, UNITS)),
            Wire::Resp => put_words(output, &[b"STOCK.ADD", sku.as_bytes(), UNITS.to_string().as_bytes()]),
        }
    }
}

impl Source for Catalogue {
    fn next(&mut self, output: &mut Vec<u8>, request_id: u64) -> Option<Tag> {
        if let Some(about) = self.following.pop_front() {
            self.stock(output, request_id, about);
            return Some(Tag { class: STOCK, about });
        }
        self.left = self.left.checked_sub(1)?;
        let about = self.next_item;
        self.next_item += 1;
        self.put(output, request_id, about);
        Some(Tag { class: PUT, about })
    }

    fn answered(&mut self, tag: Tag, answer: &Answer<'_>) {
        if let (PUT, Answer::Done(_)) = (tag.class, answer) {
            self.following.push_back(tag.about);
            self.tally.items += 1;
        }
    }

    fn tally(&self) -> Tally {
        self.tally
    }
}

/// The workload.
#[derive(Debug)]
pub struct LoadWorkload {
    item_count: u64,
}

impl LoadWorkload {
    /// So many items.
    pub const fn new(item_count: u64) -> Self {
        Self { item_count }
    }
}

impl Workload for LoadWorkload {
    fn title(&self) -> String {
        format!("load: {} new items, each put and stocked", grouped(self.item_count))
    }

    fn classes(&self) -> &'static [&'static str] {
        &["put", "stock"]
    }

    fn request_count(&self) -> Option<u64> {
        Some(self.item_count)
    }

    fn prepare(&mut self, target: &Target) -> Result<(), WorkloadError> {
        needs_shop("load", target)
    }

    fn sources(&mut self, target: &Target, division: &Division) -> Result<Vec<Box<dyn Source>>, WorkloadError> {
        let source = |worker| -> Box<dyn Source> {
            Box::new(Catalogue {
                wire: target.wire,
                run: division.run,
                worker,
                next_item: 0,
                left: division.limit_of(worker),
                following: VecDeque::new(),
                tally: Tally::default(),
            })
        };
        Ok((0..division.worker_count).map(source).collect())
    }
}
