package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/capstan-gitops/capstan/hub"
	"github.com/capstan-gitops/capstan/hub/backup"
	"github.com/capstan-gitops/capstan/pkg/fleet"
)

func newBackup() *cobra.Command {
	var dir string
	var s backup.Sealing
	cmd := &cobra.Command{
		Use:   "backup FILE",
		Short: "Write the state of the hub that runs on a data directory into a file",
		Long: `Write the state of the hub that runs on a data directory into a file.

The file holds the hub's keys, and with them what it takes to be this hub to all
its agents: it has the mode 0600, and is best encrypted, for age public keys or
with a passphrase. FILE - writes to the terminal's end of a pipe.

Not in it are join tokens that were not used yet and the administrator's token in
clear. The hub goes on meanwhile. One that is stopped is backed up by copying its
data directory.`,
		Example: `  capstan-hub backup --data-dir /var/lib/capstan --recipient age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p hub.backup
  kubectl -n capstan-hub exec deploy/capstan-hub -- capstan-hub backup - > hub.backup`,
		Args:    cobra.ExactArgs(1),
		PreRunE: func(cmd *cobra.Command, _ []string) error { return fromEnv(cmd.Flags(), os.LookupEnv) },
		RunE: func(cmd *cobra.Command, args []string) error {
			if dir == "" {
				return fleet.WithHint(fleet.Invalid("no data directory is named"), "name the running hub's with --data-dir")
			}
			to, done, err := output(args[0], cmd.OutOrStdout())
			if err != nil {
				return err
			}
			sum, err := takeBackup(cmd, dir, s, to)
			if err := done(err); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "backup of hub %s: %d files, %d documents\n", sum.Header.Instance, sum.Files, sum.Records)
			if !s.Sealed() {
				fmt.Fprintln(cmd.ErrOrStderr(), "it is not encrypted and holds the hub's keys: whoever has it can be this hub to its agents")
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "data-dir", "", "data directory of the running hub (required)")
	f.StringSliceVar(&s.Recipients, "recipient", nil, "age public key to encrypt for; several with commas")
	f.StringVar(&s.PassphraseFile, "passphrase-file", "", "file with a passphrase to encrypt with")
	return cmd
}

// takeBackup writes what the hub sends, encrypted, and reads it as it goes by.
func takeBackup(cmd *cobra.Command, dir string, s backup.Sealing, to io.Writer) (backup.Summary, error) {
	sealed, err := s.Seal(to)
	if err != nil {
		return backup.Summary{}, err
	}
	r, w := io.Pipe()
	var sum backup.Summary
	read := make(chan error, 1)
	go func() {
		var err error
		sum, err = backup.Read(r, backup.Into{})
		r.CloseWithError(err)
		read <- err
	}()
	err = hub.Backup(cmd.Context(), dir, io.MultiWriter(sealed, w))
	w.CloseWithError(err)
	if bad := <-read; err == nil {
		err = bad
	}
	return sum, errors.Join(err, sealed.Close())
}

// output opens what is written to. done puts a file in place, if all went well.
func output(name string, stdout io.Writer) (w io.Writer, done func(error) error, err error) {
	if name == "-" {
		return stdout, func(err error) error { return err }, nil
	}
	f, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-*") // 0600
	if err != nil {
		return nil, nil, err
	}
	return f, func(err error) error {
		if err == nil {
			err = f.Sync()
		}
		if err = errors.Join(err, f.Close()); err == nil {
			err = os.Rename(f.Name(), name)
		}
		if err != nil {
			os.Remove(f.Name()) //nolint:errcheck // what counts failed before
		}
		return err
	}, nil
}

func newRestore() *cobra.Command {
	var dir string
	var s backup.Sealing
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make a new data directory of a backup",
		Long: `Make a new data directory of a backup.

A hub started on it is the one the backup was taken of: the agents that had joined
by then go on talking to it, and revisions of what is wanted of them begin above
whatever they heard. The backup is checked whole before anything is written.

The hub that was there before must not run any more. Labels, approvals and removals
of clusters since the backup are not in it: look them through.`,
		Example: `  capstan-hub restore --data-dir /var/lib/capstan-new --identity-file key.txt hub.backup`,
		Args:    cobra.ExactArgs(1),
		PreRunE: func(cmd *cobra.Command, _ []string) error { return fromEnv(cmd.Flags(), os.LookupEnv) },
		RunE: func(cmd *cobra.Command, args []string) error {
			if dir == "" {
				return fleet.WithHint(fleet.Invalid("no data directory is named"), "name the new one with --data-dir")
			}
			sum, err := hub.Restore(cmd.Context(), dir, func() (io.ReadCloser, error) {
				f, err := os.Open(args[0])
				if err != nil {
					return nil, err
				}
				r, err := s.Open(f)
				if err != nil {
					f.Close()
					return nil, err
				}
				return struct {
					io.Reader
					io.Closer
				}{r, f}, nil
			})
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "restored hub %s as of %s: %d files, %d documents\n",
				sum.Header.Instance, sum.Header.At.Format("2006-01-02 15:04:05 MST"), sum.Files, sum.Records)
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "data-dir", "", "the new data directory, which is empty or not there (required)")
	f.StringVar(&s.IdentityFile, "identity-file", "", "file with the age key of one the backup was encrypted for")
	f.StringVar(&s.PassphraseFile, "passphrase-file", "", "file with the passphrase it was encrypted with")
	return cmd
}
