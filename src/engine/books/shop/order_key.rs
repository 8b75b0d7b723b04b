//! An order holds the request key of its checkout, so that the key is not kept twice.

use cartwright_protocol::{Key, Reply};

use crate::engine::books::StateTag;
use crate::engine::books::shop::packed_order::PackedOrder;
use crate::engine::kernel::book::HoldsKey;
use crate::engine::kernel::hashing::Fingerprint;
use crate::engine::kernel::ids::Timestamp;
use crate::engine::kernel::request_keys::{Scope, customer_key_hash};

impl HoldsKey for PackedOrder {
    fn holds(&self, scope: &Scope, key: &Key) -> bool {
        self.key_bytes() == key.as_bytes()
            && matches!(scope, Scope::Customer(customer) if customer.as_bytes() == self.customer_bytes())
    }

    fn key_hash(&self) -> u32 {
        customer_key_hash(self.customer_bytes(), self.key_bytes())
    }

    fn request_fingerprint(&self) -> u64 {
        self.fingerprint()
    }

    fn key_used_at(&self) -> Timestamp {
        self.created_at()
    }

    fn reply(&self) -> Reply {
        Reply::Receipt(self.receipt())
    }

    fn hash_key(&self, fingerprint: &mut Fingerprint) -> u64 {
        fingerprint
            .begin(StateTag::ORDER_KEY)
            .integer(self.id().to_integer())
            .bytes(self.key_bytes())
            .integer(self.fingerprint())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use cartwright_protocol::{Amount, Currency, Customer, OrderId, Slot};

    use super::*;
    use crate::engine::books::shop::packed_order::{OrderHeader, OrderPacker};
    use crate::engine::kernel::request_key_table::RequestKeyTable;
    use crate::engine::kernel::slots::SlotState;

    fn order(customer: &str, sequence: u64) -> PackedOrder {
        let customer: Customer = customer.parse().unwrap();
        let mut packer = OrderPacker::default();
        packer.begin(&OrderHeader {
            id: OrderId::new(Slot::new(5).unwrap(), sequence),
            customer: &customer,
            key: &format!("key-{sequence}").parse().unwrap(),
            fingerprint: sequence,
            currency: Currency::new(b"GBP").unwrap(),
            total: Amount::default(),
            created_at: Timestamp(sequence),
            hold_ms: None,
        });
        packer.finish()
    }

    #[test]
    fn an_order_keeps_its_key_until_it_is_forgotten() {
        let SlotState {
            mut books,
            mut request_keys,
            ..
        } = SlotState::default();
        for sequence in 1..=3 {
            let number = books.shop.insert_order(order("c", sequence));
            assert!(request_keys.insert_held(number, &books));
        }
        let scope = Scope::Customer("c".parse().unwrap());
        let found = |keys: &RequestKeyTable, key: &str| {
            let kept = keys.get(&scope, &key.parse().unwrap(), &books);
            kept.map(|kept| kept.fingerprint())
        };
        assert_eq!(found(&request_keys, "key-2"), Some(2));
        assert_eq!(found(&request_keys, "key-4"), None);
        assert_eq!(request_keys.forget(Timestamp(3), &books), 2);
        assert_eq!(
            (found(&request_keys, "key-2"), found(&request_keys, "key-3")),
            (None, Some(3))
        );
        assert_eq!(books.shop.orders().count(), 3, "only the keys are forgotten");
    }
}
