//! Work that takes more than a millisecond of CPU: how it is kept off the workers on which sessions take turns is for
//! the caller to say.

/// So many rows, keys or values are light work in whatever form.
pub const LIGHT: usize = 200;
/// So many bytes of a statement weigh as much as one row.
const BYTES_PER_ROW: usize = 256;

/// Runs work where it holds nobody up.
#[derive(Clone, Copy, Debug)]
pub struct Heavy(pub fn(&mut dyn FnMut()));

/// Work, and what comes of it.
enum Slot<T, F> {
    Todo(F),
    Done(T),
    Running,
}

impl<T, F: FnOnce() -> T> Slot<T, F> {
    fn run(&mut self) {
        *self = match std::mem::replace(self, Slot::Running) {
            Slot::Todo(work) => Slot::Done(work()),
            ran => ran,
        };
    }
}

impl Heavy {
    /// Runs what looks at so many rows, keys or values.
    pub fn run<T>(self, rows: usize, work: impl FnOnce() -> T) -> T {
        if rows <= LIGHT {
            return work();
        }
        let mut slot = Slot::Todo(work);
        (self.0)(&mut || slot.run());
        // Where it was not run, it is now
        slot.run();
        match slot {
            Slot::Done(done) => done,
            Slot::Todo(_) | Slot::Running => unreachable!("work that has run is done"),
        }
    }

    /// The same of what reads a text of so many bytes.
    pub fn run_text<T>(self, bytes: usize, work: impl FnOnce() -> T) -> T {
        self.run(bytes / BYTES_PER_ROW, work)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_runs_once_wherever() {
        for place in [Heavy(|work| work()), Heavy(|_| {}), Heavy(|work| (work(), work()).0)] {
            for rows in [0, LIGHT, LIGHT + 1] {
                let mut count = 0;
                assert_eq!(
                    place.run(rows, || {
                        count += 1;
                        count
                    }),
                    1
                );
                assert_eq!(count, 1);
            }
        }
    }
}
