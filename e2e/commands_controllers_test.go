package e2e_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/capstan-gitops/capstan/e2e/build"
	"github.com/capstan-gitops/capstan/e2e/cluster"
	"github.com/capstan-gitops/capstan/e2e/process"
)

// controller is somebody else's: what a Deployment of the cluster would run, if
// there were containers.
type controller struct {
	*process.Process
	cluster string
	program build.Program
}

// listenAnywhere keeps the controllers of several clusters apart.
var listenAnywhere = map[build.Program][]string{
	build.SealedSecrets:   {"--listen-addr=127.0.0.1:0", "--listen-metrics-addr=127.0.0.1:0"},
	build.ExternalSecrets: {"--metrics-addr=127.0.0.1:0"},
}

func (p *play) controller(args []string) (string, error) {
	if len(args) < 3 || p.stage.Spoke(args[0]) == nil || listenAnywhere[build.Program(args[1])] == nil {
		return "", errUsage
	}
	name, program := args[0], build.Program(args[1])
	if args[2] == "start" {
		return "", p.startController(name, program, args[3:])
	}
	for _, c := range slices.Backward(p.controllers) {
		if c.cluster != name || c.program != program {
			continue
		}
		switch args[2] {
		case "stop":
			return "", c.Stop()
		case "continue":
			return "", c.Continue()
		case "kill":
			return "", c.Kill()
		}
	}
	return "", errUsage
}

// startController starts one as the ServiceAccount that the repository brings:
// of the program's name, in a namespace of that name. It has the rights that the
// repository gives it, and no more.
func (p *play) startController(name string, program build.Program, args []string) error {
	path, err := build.Make(p.ctx, program, nil)
	if err != nil {
		return err
	}
	dir := filepath.Join(p.work, stageDir, name)
	kubeconfig := filepath.Join(dir, string(program)+".kubeconfig")
	_, err = p.retry(untilWithin, func() (string, error) {
		return "", cluster.ServiceAccountKubeconfig(p.ctx, p.stage.Spoke(name).Kubeconfig(), string(program), string(program), kubeconfig)
	})
	if err != nil {
		return err
	}
	started, err := process.Start(process.Spec{
		Path: path, Args: append(append([]string{}, listenAnywhere[program]...), args...), Dir: dir,
		Env: append(os.Environ(), "KUBECONFIG="+kubeconfig, "POD_NAMESPACE="+string(program)),
		Log: filepath.Join(dir, string(program)+".log"),
	})
	if err != nil {
		return err
	}
	p.controllers = append(p.controllers, controller{Process: started, cluster: name, program: program})
	return nil
}

func (p *play) endControllers() error {
	var errs []error
	for _, c := range p.controllers {
		errs = append(errs, c.Kill())
	}
	return errors.Join(errs...)
}

// crds copies the CRDs that come with a controller into a directory of the script.
func (p *play) crds(args []string) (string, error) {
	if len(args) != 2 {
		return "", errUsage
	}
	from, err := build.CRDs(p.ctx, build.Program(args[0]))
	if err != nil {
		return "", err
	}
	return "", os.CopyFS(filepath.Join(p.work, filepath.FromSlash(args[1])), os.DirFS(from))
}

// sealingKey is a key of Sealed Secrets as people make it who bring their own:
// nobody has it until the script gives it away.
type sealingKey struct{ private, certificate []byte }

func (p *play) madeSealingKey() (sealingKey, error) {
	if p.sealing.private != nil {
		return p.sealing, nil
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return sealingKey{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return sealingKey{}, err
	}
	p.sealing = sealingKey{
		private:     pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}),
		certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
	}
	return p.sealing, nil
}

// sealingKeyTo gives a cluster's Sealed Secrets the key.
func (p *play) sealingKeyTo(args []string) (string, error) {
	if len(args) != 1 {
		return "", errUsage
	}
	key, err := p.madeSealingKey()
	if err != nil {
		return "", err
	}
	return p.stage.Kubectl(p.ctx, args[0], fmt.Sprintf(`
apiVersion: v1
kind: Secret
metadata:
  name: our-key
  namespace: %s
  labels: {sealedsecrets.bitnami.com/sealed-secrets-key: active}
type: kubernetes.io/tls
data:
  tls.crt: %s
  tls.key: %s
`, build.SealedSecrets, base64.StdEncoding.EncodeToString(key.certificate), base64.StdEncoding.EncodeToString(key.private)),
		"apply", "-f", "-")
}

// kubeseal puts a SealedSecret in the place of the Secret in a file of the script.
func (p *play) kubeseal(args []string) (string, error) {
	if len(args) != 1 {
		return "", errUsage
	}
	program, err := build.Make(p.ctx, build.Kubeseal, nil)
	if err != nil {
		return "", err
	}
	key, err := p.madeSealingKey()
	if err != nil {
		return "", err
	}
	certificate := filepath.Join(p.work, "sealing.pem")
	if err := os.WriteFile(certificate, key.certificate, 0o600); err != nil {
		return "", err
	}
	file := filepath.Join(p.work, filepath.FromSlash(args[0]))
	cmd := exec.CommandContext(p.ctx, program, "--cert", certificate, "--format", "yaml", "--secret-file", file)
	sealed, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return "", fmt.Errorf("kubeseal: %w\n%s", err, exit.Stderr)
	}
	if err != nil {
		return "", err
	}
	return "", os.WriteFile(file, sealed, 0o644)
}
