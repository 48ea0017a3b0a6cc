//! Which of many processes this one is, as whoever started them says in its environment.

/// The variables that number a process, each with those that name its job. Slurm's come last: what MPI's own starters run
/// within a step of Slurm inherits the step's number.
const STARTERS: [(&str, &[&str]); 4] = [
    ("OMPI_COMM_WORLD_RANK", &["PMIX_NAMESPACE"]),
    ("PMIX_RANK", &["PMIX_NAMESPACE"]),
    ("PMI_RANK", &["PMI_JOBID", "SLURM_JOB_ID", "SLURM_STEP_ID"]),
    ("SLURM_PROCID", &["SLURM_JOB_ID", "SLURM_STEP_ID"]),
];

/// One of the processes that were started together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Rank {
    pub(super) number: u64,
    /// What they have in common and others have not, where it is known.
    pub(super) job: Option<String>,
}

impl Rank {
    /// This process.
    pub(super) fn of_process() -> Option<Rank> {
        Rank::of(|name| std::env::var(name).ok())
    }

    fn of(variable: impl Fn(&str) -> Option<String>) -> Option<Rank> {
        let (number, names) = STARTERS.iter().find_map(|(rank, names)| Some((variable(rank)?.parse().ok()?, names)))?;
        let parts: Vec<String> = names.iter().filter_map(|name| variable(name)).collect();
        Some(Rank { number, job: (!parts.is_empty()).then(|| parts.join(".")) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(environment: &[(&str, &str)], expected: Option<(u64, Option<&str>)>) {
        let find = |name: &str| environment.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned());
        let expected = expected.map(|(number, job)| Rank { number, job: job.map(str::to_owned) });
        assert_eq!(Rank::of(find), expected);
    }

    #[test]
    fn every_starter_numbers_its_processes() {
        check(&[("SLURM_PROCID", "3"), ("SLURM_JOB_ID", "77"), ("SLURM_STEP_ID", "0")], Some((3, Some("77.0"))));
        check(&[("OMPI_COMM_WORLD_RANK", "0"), ("PMIX_NAMESPACE", "prte-1@1")], Some((0, Some("prte-1@1"))));
        check(&[("PMI_RANK", "12")], Some((12, None)));
        check(&[("SLURM_PROCID", "0"), ("PMI_RANK", "2")], Some((2, None)));
        check(&[("SLURM_JOB_ID", "77")], None);
        check(&[("PMI_RANK", "first")], None);
    }
}
