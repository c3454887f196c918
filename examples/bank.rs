//! A bank whose accounts are strands: transfers between them from any thread, without a lock, and no account is ever overdrawn.
//!
//! ```text
//! cargo run --release --example bank -- --accounts 100 --strategy work-stealing
//! ```
//!
//! Each account's state belongs to its strand: handlers get it one at a time, whichever threads run them. A transfer is two of
//! them, one on each account; in between the money is in the second one's queue. Nobody ever has two accounts at once, so
//! nobody waits for an account, and no order of taking them has to be kept.

use std::error::Error;
use std::num::NonZeroU32;
use std::sync::Arc;

use clap::Parser;
use proactor::{Proactor, Strand, Strategy};

/// Transfers money between accounts by chance, on every thread, and then looks at the books.
#[derive(Parser)]
#[command(name = "bank")]
struct Options {
    /// How many transfers are ordered
    #[arg(value_name = "TRANSFERS", default_value = "100000")]
    transfers: NonZeroU32,
    /// How many accounts there are, each with 100 in the beginning
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    accounts: u32,
    /// Who runs the handlers: single, leader-followers or work-stealing
    #[arg(long, value_name = "STRATEGY", default_value = "work-stealing")]
    strategy: Strategy,
}

/// What everybody has in the beginning.
const FIRST: u64 = 100;
/// How many transfers are under way at once.
const TELLERS: u32 = 16;

/// One account. Nobody but its strand's handlers ever touches it.
#[derive(Default)]
struct Account {
    balance: u64,
    paid_in: u64,
    paid_out: u64,
    refused: u64,
}

impl Account {
    fn pay_in(&mut self, amount: u64) {
        self.balance += amount;
        self.paid_in += amount;
    }

    /// Whether there was enough.
    fn pay_out(&mut self, amount: u64) -> bool {
        let Some(left) = self.balance.checked_sub(amount) else {
            self.refused += 1;
            return false;
        };
        self.balance = left;
        self.paid_out += amount;
        true
    }
}

/// Whoever orders transfers, one after the other, on whichever thread that is.
struct Teller {
    accounts: Arc<[Strand<Account>]>,
    /// How many are still to be ordered.
    left: u32,
    chance: u64,
}

impl Teller {
    /// Orders the next transfer, unless all are done: two handlers, and the second orders the next.
    fn next(mut self) {
        if self.left == 0 {
            return;
        }
        self.left -= 1;
        let from = self.below(self.accounts.len());
        let other = self.below(self.accounts.len() - 1);
        let to = (from + 1 + other) % self.accounts.len();
        let amount = 1 + self.below(50) as u64;
        let (from, to) = (self.accounts[from].clone(), self.accounts[to].clone());
        from.post(move |from| {
            if from.pay_out(amount) {
                to.post(move |to| {
                    to.pay_in(amount);
                    self.next();
                });
            } else {
                self.next();
            }
        });
    }

    /// Some number below `limit`: by Knuth's linear congruence, of whose bits the upper ones are the better.
    fn below(&mut self, limit: usize) -> usize {
        self.chance = self
            .chance
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let upper = u32::try_from(self.chance >> 32).expect("32 bits");
        upper as usize % limit
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let proactor = Proactor::builder().strategy(options.strategy).build()?;
    let open = |_| {
        let account = Strand::new(&proactor, Account::default());
        account.post(|account| account.pay_in(FIRST));
        account
    };
    let accounts: Arc<[Strand<Account>]> = (0..options.accounts).map(open).collect();
    let transfers = options.transfers.get();
    for number in 0..TELLERS {
        let teller = Teller {
            accounts: Arc::clone(&accounts),
            left: transfers / TELLERS + u32::from(number < transfers % TELLERS),
            chance: number.into(),
        };
        teller.next();
    }
    proactor.run();

    // Each strand is asked for its books, and adds them to those of the house: a strand, too.
    let house = Strand::new(&proactor, Account::default());
    for account in &*accounts {
        let house = house.clone();
        account.post(move |account| {
            let Account {
                balance,
                paid_in,
                paid_out,
                refused,
            } = *account;
            assert_eq!(paid_in - paid_out, balance, "the books of an account");
            house.post(move |house| {
                house.balance += balance;
                house.paid_in += paid_in;
                house.paid_out += paid_out;
                house.refused += refused;
            });
        });
    }
    proactor.run();
    let house = house
        .try_into_inner()
        .map_err(|_| "somebody still has the house")?;
    println!(
        "{} transfers between {} accounts: {} refused, {} moved",
        transfers, options.accounts, house.refused, house.paid_out
    );
    println!(
        "in the beginning there was {}",
        FIRST * u64::from(options.accounts)
    );
    println!("and in the end there is    {}", house.balance);
    if house.balance != FIRST * u64::from(options.accounts) {
        return Err("money was lost, or made".into());
    }
    Ok(())
}
