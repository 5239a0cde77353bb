package stage

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

const (
	agentNamespace = "capstan-system"
	agentAccount   = "capstan-agent"
	agentConfigMap = "capstan-agent"
	mountRoot      = "/etc/capstan" // where the manifests mount what the agent reads
)

// mounts is where below mountRoot the manifests mount what.
var mounts = map[string]string{
	"ConfigMap/" + agentConfigMap: "config",
	"Secret/capstan-join":         "join",
	"Secret/capstan-git":          "git",
}

// install is what `capstan join` printed, taken apart.
type install struct {
	manifests string            // without the workload
	files     map[string]string // what the workload would find, by path below mountRoot
}

func readInstall(out string) (install, error) {
	in := install{files: make(map[string]string)}
	docs := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(out)))
	for {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			return in, nil
		}
		if err == nil {
			err = in.add(doc)
		}
		if err != nil {
			return in, fmt.Errorf("output of capstan join: %w", err)
		}
	}
}

func (in *install) add(doc []byte) error {
	var object metav1.PartialObjectMetadata
	if err := yaml.Unmarshal(doc, &object); err != nil {
		return err
	}
	if object.Kind == "Deployment" || object.Kind == "DaemonSet" {
		return nil
	}
	in.manifests += "---\n" + strings.TrimPrefix(string(doc), "---\n")
	dir, mounted := mounts[object.Kind+"/"+object.Name]
	if !mounted {
		return nil
	}
	values, err := valuesOf(object.Kind, doc)
	for name, value := range values {
		in.files[filepath.Join(dir, name)] = value
	}
	return err
}

func valuesOf(kind string, doc []byte) (map[string]string, error) {
	if kind == "ConfigMap" {
		var cm corev1.ConfigMap
		err := yaml.Unmarshal(doc, &cm)
		return cm.Data, err
	}
	var secret corev1.Secret
	if err := yaml.Unmarshal(doc, &secret); err != nil {
		return nil, err
	}
	values := make(map[string]string)
	for name, v := range secret.Data {
		values[name] = string(v)
	}
	maps.Copy(values, secret.StringData)
	return values, nil
}

// mount writes what the workload would find mounted below dir, and returns the
// agent's configuration file there, with its paths adapted.
func (in *install) mount(dir string) (config string, err error) {
	for name, content := range in.files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return "", err
		}
		content = strings.ReplaceAll(content, mountRoot, dir)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return "", err
		}
	}
	return filepath.Join(dir, "config", "agent.yaml"), nil
}
