package fleet

// Sync says whether what runs is what Git wants.
type Sync string

const (
	// Synced: the applied digest is the wanted one and no drift is known.
	Synced Sync = "Synced"
	// OutOfSync: something differs and is about to be, or may not be, put right.
	OutOfSync Sync = "OutOfSync"
	// Pending: a plan waits at a gate.
	Pending Sync = "Pending"
	// SyncUnknown: what is wanted can't be told, for instance because the
	// render failed, or the report is too old to be believed.
	SyncUnknown Sync = "Unknown"
)

// Health says whether what runs works.
type Health string

// The words are ordered: an app is as healthy as the worst of its objects.
const (
	Healthy       Health = "Healthy"
	Suspended     Health = "Suspended"
	Progressing   Health = "Progressing"
	Missing       Health = "Missing"
	Degraded      Health = "Degraded"
	HealthUnknown Health = "Unknown"
)

var severity = map[Health]int{
	Healthy: 0, Suspended: 1, Progressing: 2, Missing: 3, Degraded: 4, HealthUnknown: 5,
}

// Worse tells whether h is worse than other. A word that is not one of ours
// counts as Unknown.
func (h Health) Worse(other Health) bool { return h.rank() > other.rank() }

func (h Health) rank() int {
	if r, ok := severity[h]; ok {
		return r
	}
	return severity[HealthUnknown]
}

// Gate names a condition that a plan must pass.
type Gate string

const (
	// GateApproval: a person must sign for the plan.
	GateApproval Gate = "approval"
	// GateConfirmPrune: the plan removes more than the guard allows by itself.
	GateConfirmPrune Gate = "confirm-prune"
)

// The conditions of kstatus, which `kubectl wait` and other tools understand.
const (
	ConditionReady       = "Ready"
	ConditionReconciling = "Reconciling"
	ConditionStalled     = "Stalled"
)
