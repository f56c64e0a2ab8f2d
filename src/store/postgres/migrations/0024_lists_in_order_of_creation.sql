-- Runs of one time of creation are listed by their number, which is shorter than the id in each entry of
-- an index. The indexes that have this order are created beforehand (`schema.rs`); they replace these.
DROP INDEX IF EXISTS @run_listed, @run_listed_by_workflow, @run_listed_by_key, @run_by_state, @run_by_error,
    @run_remarkable;
