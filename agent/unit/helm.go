package unit

// Release is what a chart may know of the app it is rendered for.
type Release struct{ Name, Namespace string }

// Helm says how a path's chart is rendered.
type Helm struct {
	ReleaseName string // "": the Release's
	Values      []byte // a JSON object, whose strings may be templates over Facts; nil: none
	// ValuesFiles are files of the repository, in order. They are relative to the
	// path, or from the repository's root with a leading slash, and may be
	// templates over Facts.
	ValuesFiles []string
	ValuesFrom  []ValuesDocument // come after ValuesFiles, in order
	SkipCRDs    bool
	Hooks       Hooks
	APIVersions []string // that the chart may count on, besides the default ones
	Chart       *Chart   // nil: the path is a chart
}

// ValuesDocument is values that did not come from the repository.
type ValuesDocument struct {
	From    string // names it in messages: "Secret shop/db, key values.yaml"
	Content []byte // YAML
}

// Hooks says what becomes of objects that Helm would run as hooks.
type Hooks string

// What may become of hooks. Test hooks are always left out.
const (
	HooksRun    Hooks = "Run"    // they run as hooks; so it is where nothing is said, too
	HooksIgnore Hooks = "Ignore" // they are left out
	HooksApply  Hooks = "Apply"  // they are objects like the others
)

// Chart names a chart at one version, where charts are kept.
type Chart struct {
	Repository string // https://... or oci://...
	Name       string
	Version    string
	Digest     string // sha256:<hex> of its archive; "": any
}

func (c Chart) String() string { return c.Name + " " + c.Version + " of " + c.Repository }

// ChartFile is something that a render needs of a place where charts are kept.
type ChartFile struct {
	Repository string // as in Chart
	Kind       ChartFileKind
	Name       string // the chart's, in a registry
	Ref        string // an archive's URL, a manifest's tag, a layer's digest
	Digest     string // sha256:<hex> that an archive must have; "": not known
}

// ChartFileKind says what a ChartFile is.
type ChartFileKind uint8

// A chart repository has an index and archives; a registry has manifests and layers.
const (
	ChartIndex ChartFileKind = iota
	ChartArchive
	ChartManifest
	ChartLayer
)

// ChartAccess is what the place of an App's own chart asks for. It is for that
// place alone.
type ChartAccess struct {
	Username, Password string
	CA                 []byte // PEM, to trust besides the system's
}

// ChartError says that a chart can't be had now. Nothing is wrong with the
// repository: it is worth another try without a commit.
type ChartError struct{ Message, Hint string }

func (e *ChartError) Error() string { return e.Message }
