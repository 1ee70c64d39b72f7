//! The bytes of request bodies that are held at once, by the process and by one client network:
//! bodies are read before anybody is authenticated.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::network;

/// The share of the budget that one client network may hold: a quarter.
const SHARE: usize = 4;

/// The budget is used up, by the process or by the client's network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// The byte budget of a process.
#[derive(Debug)]
pub struct BodyBudget {
    most: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    total: usize,
    by_network: HashMap<IpAddr, usize>,
}

impl BodyBudget {
    /// A budget of so many bytes.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, held: Mutex::default() })
    }

    /// Nothing yet, for a body from this address.
    pub fn reservation(self: &Arc<Self>, address: IpAddr) -> Reservation {
        Reservation { budget: Arc::clone(self), network: network(address), bytes: 0 }
    }

    /// The bytes held now.
    pub fn in_flight(&self) -> usize {
        self.held().total
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The bytes of one body, given back when it is dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<BodyBudget>,
    network: IpAddr,
    bytes: usize,
}

impl Reservation {
    /// Reserves further bytes.
    ///
    /// # Errors
    /// [`Full`]; what was reserved before stays reserved.
    pub fn grow(&mut self, bytes: usize) -> Result<(), Full> {
        let most = self.budget.most;
        let mut held = self.budget.held();
        let total = held.total.saturating_add(bytes);
        let of_network = held.by_network.get(&self.network).copied().unwrap_or(0);
        let of_network = of_network.saturating_add(bytes);
        if total > most || of_network > most / SHARE {
            return Err(Full);
        }
        held.total = total;
        held.by_network.insert(self.network, of_network);
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut held = self.budget.held();
        held.total -= self.bytes;
        if let Entry::Occupied(mut entry) = held.by_network.entry(self.network) {
            *entry.get_mut() -= self.bytes;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t103_the_budget_holds_for_all_and_for_each_network() {
        let budget = BodyBudget::new(400);
        let body = |address: &str| budget.reservation(address.parse().unwrap());
        let mut first = body("192.0.2.1");
        assert_eq!(first.grow(60), Ok(()));
        assert_eq!(first.grow(40), Ok(()));
        assert_eq!(first.grow(1), Err(Full), "a quarter is the share of a network");
        assert_eq!(body("192.0.2.1").grow(1), Err(Full));
        let mut others: Vec<_> = (2..5).map(|n| body(&format!("192.0.2.{n}"))).collect();
        assert!(others.iter_mut().all(|other| other.grow(100).is_ok()));
        assert_eq!(body("192.0.2.9").grow(1), Err(Full), "the whole is used up");
        assert_eq!(budget.in_flight(), 400);
        drop(first);
        assert_eq!(body("192.0.2.9").grow(100), Ok(()));
        drop(others);
        assert_eq!(budget.in_flight(), 0);
        assert!(budget.held().by_network.is_empty());
    }
}
