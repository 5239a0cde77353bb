// Command capstan-keys asks key services of clouds, and HashiCorp Vault, to
// decrypt the data keys of files that SOPS encrypted, for capstan-agent, which
// starts it and speaks to it over its standard input and output.
package main

import (
	"fmt"
	"os"

	"golang.org/x/term"

	"github.com/capstan-gitops/capstan/agent/keyring/clouds"
)

const usage = `capstan-keys is started by capstan-agent, which speaks to it over its standard input and output,
where decryption.kms of the agent's configuration lists keys. What it needs to know who it is, it reads
from the agent's environment: AWS_*, GOOGLE_*, AZURE_*, VAULT_*. See docs/secrets.md.`

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--help" {
		fmt.Println(usage)
		return
	}
	if len(os.Args) > 1 || term.IsTerminal(int(os.Stdin.Fd())) {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	clouds.Limit()
	if err := clouds.Main(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "capstan-keys:", err)
		os.Exit(1)
	}
}
