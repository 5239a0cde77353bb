package fleet

// Push says that somebody pushed to a repository.
type Push struct {
	RepoURL string   // "": any
	Refs    []string // that moved, as refs/heads/main; none: any may have
	Agents  int      // how many are told of it, about; 0: nobody knows
}
