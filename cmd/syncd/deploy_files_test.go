package main

import (
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"

	"polarmirror/internal/config"
)

// A deployment is one way to start syncd: what the file under deploy (or the
// Dockerfile) gives it to find its configuration by.
type deployment struct {
	workdir     string   // "" = that of the image
	arguments   []string // after the program
	file        string   // where the configuration file is put
	text        string   // what is in it; "" = up to whoever installs it
	environment []string // names of variables
	grace       time.Duration
	listen      []string // ports that are published or probed
}

func deployments(t testing.TB) map[string]deployment {
	t.Helper()
	return map[string]deployment{
		"compose.yaml":    composeDeployment(t),
		"kubernetes.yaml": kubernetesDeployment(t),
		"syncd.service":   unitDeployment(t),
	}
}

func parseYAML[T any](t testing.TB, text string) T {
	t.Helper()
	var v T
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func composeDeployment(t testing.TB) deployment {
	t.Helper()
	type file struct {
		Services map[string]struct {
			WorkingDir  string            `yaml:"working_dir"`
			Command     []string          `yaml:"command"`
			Entrypoint  []string          `yaml:"entrypoint"`
			Environment map[string]string `yaml:"environment"`
			Volumes     []string          `yaml:"volumes"`
			Ports       []string          `yaml:"ports"`
			Grace       string            `yaml:"stop_grace_period"`
		} `yaml:"services"`
	}
	s := parseYAML[file](t, readDocument(t, "deploy/compose.yaml")).Services["syncd"]
	if len(s.Entrypoint) > 0 {
		t.Error("compose.yaml replaces the image's entry point")
	}
	source, target, _ := strings.Cut(strings.TrimSuffix(s.Volumes[0], ":ro"), ":")
	d := deployment{workdir: s.WorkingDir, arguments: s.Command, file: target, grace: parseSpan(t, s.Grace)}
	d.text = readDocument(t, filepath.Join("deploy", source))
	d.environment = slices.Sorted(maps.Keys(s.Environment))
	for _, p := range s.Ports {
		d.listen = append(d.listen, p[strings.LastIndex(p, ":")+1:])
	}
	return d
}

// A kubernetesManifest is what is looked at of one.
type kubernetesManifest struct {
	Kind string            `yaml:"kind"`
	Data map[string]string `yaml:"data"`
	Spec struct {
		Template struct {
			Spec struct {
				Grace      string `yaml:"terminationGracePeriodSeconds"`
				Containers []struct {
					Command    []string `yaml:"command"`
					Args       []string `yaml:"args"`
					WorkingDir string   `yaml:"workingDir"`
					Env        []struct {
						Name string `yaml:"name"`
					} `yaml:"env"`
					Ports []struct {
						Port string `yaml:"containerPort"`
					} `yaml:"ports"`
					VolumeMounts []struct {
						Name string `yaml:"name"`
						Path string `yaml:"mountPath"`
					} `yaml:"volumeMounts"`
				} `yaml:"containers"`
			} `yaml:"spec"`
		} `yaml:"template"`
	} `yaml:"spec"`
}

func kubernetesDeployment(t testing.TB) deployment {
	t.Helper()
	var d deployment
	for part := range strings.SplitSeq(readDocument(t, "deploy/kubernetes.yaml"), "\n---\n") {
		m := parseYAML[kubernetesManifest](t, part)
		switch m.Kind {
		case "ConfigMap":
			d.text = m.Data[config.DefaultPath]
		case "Deployment":
			c := m.Spec.Template.Spec.Containers[0]
			if len(c.Command) > 0 {
				t.Error("kubernetes.yaml replaces the image's entry point")
			}
			d.workdir, d.arguments, d.grace = c.WorkingDir, c.Args, parseSpan(t, m.Spec.Template.Spec.Grace+"s")
			d.file = c.VolumeMounts[0].Path + "/" + config.DefaultPath
			for _, e := range c.Env {
				d.environment = append(d.environment, e.Name)
			}
			for _, p := range c.Ports {
				d.listen = append(d.listen, p.Port)
			}
		}
	}
	return d
}

func unitDeployment(t testing.TB) deployment {
	t.Helper()
	text := readDocument(t, "deploy/syncd.service")
	value := func(key string) string {
		found := regexp.MustCompile(`(?m)^` + key + `=(.*)$`).FindStringSubmatch(text)
		if found == nil {
			t.Fatalf("syncd.service has no %s", key)
		}
		return found[1]
	}
	d := deployment{workdir: value("WorkingDirectory"), grace: parseSpan(t, value("TimeoutStopSec"))}
	d.arguments = strings.Fields(value("ExecStart"))[1:]
	installed := regexp.MustCompile(`install -m 644 config.yaml (\S+)`).FindStringSubmatch(text)
	d.file = installed[1]
	for _, found := range regexp.MustCompile(`(?m)^Environment=(\w+)=`).FindAllStringSubmatch(text, -1) {
		d.environment = append(d.environment, found[1])
	}
	return d
}

func parseSpan(t testing.TB, text string) time.Duration {
	t.Helper()
	span, err := time.ParseDuration(text)
	if err != nil {
		t.Fatal(err)
	}
	return span
}
