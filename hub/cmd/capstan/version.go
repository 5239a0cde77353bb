package main

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker; without it the build's own information is used.
var version string

func newVersion(s *shell) *cobra.Command {
	var f format
	c := &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  capstan version\n  capstan version -o json",
		Args:    exactly(),
		RunE: func(*cobra.Command, []string) error {
			v := ownVersion()
			if f == formatTable {
				s.printf("capstan %s (%s, %s)\n", v["version"], v["go"], v["platform"])
				return nil
			}
			return s.encode(v, f)
		},
	}
	addFormat(c, &f, formatJSON, formatYAML)
	return c
}

func ownVersion() map[string]string {
	v := map[string]string{"version": version, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if v["version"] == "" {
		v["version"] = info.Main.Version
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			v["commit"] = setting.Value
		}
	}
	return v
}
