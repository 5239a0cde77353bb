// Command capstan-render renders what a repository holds, for capstan-agent,
// which starts it and speaks to it over its standard input and output. People
// have capstan-agent render.
package main

import (
	"fmt"
	"os"

	"golang.org/x/term"

	"github.com/capstan-gitops/capstan/agent/render/worker"
)

const usage = `capstan-render is started by capstan-agent, which speaks to it over its standard input and output.
To see what a path of a checkout renders to, run: capstan-agent render PATH`

func main() {
	if len(os.Args) == 2 && os.Args[1] == "--help" {
		fmt.Println(usage)
		return
	}
	if len(os.Args) > 1 || term.IsTerminal(int(os.Stdin.Fd())) {
		fmt.Fprintln(os.Stderr, usage)
		os.Exit(2)
	}
	if err := worker.Main(os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "render worker:", err)
		os.Exit(1)
	}
}
