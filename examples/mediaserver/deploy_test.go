package main

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"

	"github.com/runnel-media/runnel/internal/config"
)

const deploy = "../../docs/deploy/"

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	require.NoError(t, err)
	return string(b)
}

// accepts checks that the server takes arguments and an environment, as far as
// that can be told without starting it.
func accepts(t *testing.T, args []string, env map[string]string) {
	t.Helper()
	known := map[string]bool{}
	new(options).flags().VisitAll(func(f *flag.Flag) { known[config.EnvName(f.Name)] = true })
	for name, value := range env {
		require.True(t, known[name], name)
		t.Setenv(name, value)
	}
	o, err := parse(args)
	require.NoError(t, err)
	_, err = o.api.gate(o, nil)
	require.NoError(t, err)
}

// TestUnit: systemd has nothing to say of the unit.
func TestUnit(t *testing.T) {
	unit := read(t, deploy+"runnel-mediaserver.service")
	env := map[string]string{}
	for _, line := range strings.Split(unit, "\n") {
		if list, ok := strings.CutPrefix(line, "Environment="); ok {
			for _, pair := range strings.Fields(list) {
				name, value, ok := strings.Cut(pair, "=")
				require.True(t, ok, pair)
				env[name] = value
			}
		}
	}
	require.NotEmpty(t, env)
	env["RUNNEL_API_STATE"] = t.TempDir()
	accepts(t, nil, env)

	verify, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is missing")
	}
	self, err := os.Executable() // what is started has to be there
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "runnel-mediaserver.service")
	started := strings.Replace(unit, "/usr/local/bin/mediaserver", self, 1)
	require.NotEqual(t, unit, started)
	require.NoError(t, os.WriteFile(path, []byte(started), 0o644))
	out, err := exec.Command(verify, "verify", "--man=no", path).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Empty(t, string(out))
}

// output runs a command and returns what it says.
func output(t *testing.T, c *exec.Cmd) (string, error) {
	t.Helper()
	out, err := c.CombinedOutput()
	return string(out), err
}

// TestDockerfile: every instruction is one, what it copies is there, the
// program needs no C library, and takes what the image sets. RUNNEL_SOAK=1
// builds it as the image does.
func TestDockerfile(t *testing.T) {
	instruction := regexp.MustCompile(`^(FROM|WORKDIR|COPY|RUN|USER|VOLUME|ENV|EXPOSE|STOPSIGNAL|ENTRYPOINT) (.+)$`)
	env := map[string]string{}
	last, build := "", ""
	for _, line := range strings.Split(strings.TrimSpace(read(t, deploy+"Dockerfile")), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		m := instruction.FindStringSubmatch(line)
		require.NotNil(t, m, line)
		switch words := strings.Fields(m[2]); {
		case m[1] == "FROM":
			last = words[0]
		case m[1] == "ENV":
			for _, pair := range words {
				name, value, _ := strings.Cut(pair, "=")
				env[name] = value
			}
		case m[1] == "COPY" && !strings.HasPrefix(words[0], "--"):
			for _, from := range words[:len(words)-1] {
				_, err := os.Stat(filepath.Join("../..", from))
				require.NoError(t, err)
			}
		case m[1] == "RUN" && strings.Contains(m[2], "go build"):
			build = m[2]
		}
	}
	require.Equal(t, "scratch", last)
	require.Contains(t, build, "CGO_ENABLED=0")
	env["RUNNEL_API_STATE"] = t.TempDir()
	accepts(t, nil, env)

	// Nothing of what is linked needs C.
	cgo := exec.Command("go", "list", "-deps", "-f", "{{if and .CgoFiles (not .Standard)}}{{.ImportPath}}{{end}}", ".")
	out, err := output(t, cgo)
	require.NoError(t, err, "%s", out)
	require.Empty(t, strings.TrimSpace(out))
	if os.Getenv("RUNNEL_SOAK") == "" || runtime.GOOS != "linux" {
		return // the rest takes minutes
	}
	program := filepath.Join(t.TempDir(), "mediaserver")
	args := strings.Fields(regexp.MustCompile(`go build.*`).FindString(build))
	for i, a := range args {
		switch a {
		case "/out/mediaserver":
			args[i] = program
		case `-ldflags="-s`:
			args[i], args[i+1] = "-ldflags=-s -w", "-buildvcs=false"
		}
	}
	static := exec.Command(args[0], args[1:]...)
	static.Dir = "../.."
	static.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err = output(t, static)
	require.NoError(t, err, "%s", out)
	b, err := os.ReadFile(program)
	require.NoError(t, err)
	require.NotContains(t, string(b[:4096]), "/ld-linux", "it wants a dynamic linker, which an empty image has not")
}

// What the manifest may say, of what Kubernetes knows.
type (
	metadata struct {
		Name   string            `yaml:"name"`
		Labels map[string]string `yaml:"labels"`
	}
	probe struct {
		HTTPGet struct {
			Path string `yaml:"path"`
			Port string `yaml:"port"`
		} `yaml:"httpGet"`
		PeriodSeconds    int `yaml:"periodSeconds"`
		TimeoutSeconds   int `yaml:"timeoutSeconds"`
		FailureThreshold int `yaml:"failureThreshold"`
	}
	container struct {
		Name    string   `yaml:"name"`
		Image   string   `yaml:"image"`
		Args    []string `yaml:"args"`
		EnvFrom []struct {
			SecretRef struct {
				Name string `yaml:"name"`
			} `yaml:"secretRef"`
		} `yaml:"envFrom"`
		Ports []struct {
			Name          string `yaml:"name"`
			ContainerPort int    `yaml:"containerPort"`
			Protocol      string `yaml:"protocol"`
		} `yaml:"ports"`
		StartupProbe    probe                        `yaml:"startupProbe"`
		LivenessProbe   probe                        `yaml:"livenessProbe"`
		ReadinessProbe  probe                        `yaml:"readinessProbe"`
		Resources       map[string]map[string]string `yaml:"resources"`
		SecurityContext struct {
			AllowPrivilegeEscalation *bool `yaml:"allowPrivilegeEscalation"`
			ReadOnlyRootFilesystem   bool  `yaml:"readOnlyRootFilesystem"`
			Capabilities             struct {
				Drop []string `yaml:"drop"`
			} `yaml:"capabilities"`
		} `yaml:"securityContext"`
		VolumeMounts []struct {
			Name      string `yaml:"name"`
			MountPath string `yaml:"mountPath"`
			ReadOnly  bool   `yaml:"readOnly"`
		} `yaml:"volumeMounts"`
	}
	pod struct {
		AutomountServiceAccountToken  *bool `yaml:"automountServiceAccountToken"`
		TerminationGracePeriodSeconds int   `yaml:"terminationGracePeriodSeconds"`
		SecurityContext               struct {
			RunAsNonRoot   bool              `yaml:"runAsNonRoot"`
			RunAsUser      int               `yaml:"runAsUser"`
			RunAsGroup     int               `yaml:"runAsGroup"`
			FSGroup        int               `yaml:"fsGroup"`
			SeccompProfile map[string]string `yaml:"seccompProfile"`
		} `yaml:"securityContext"`
		Containers []container `yaml:"containers"`
		Volumes    []struct {
			Name                  string            `yaml:"name"`
			PersistentVolumeClaim map[string]string `yaml:"persistentVolumeClaim"`
			Secret                map[string]string `yaml:"secret"`
		} `yaml:"volumes"`
	}
	deployment struct {
		APIVersion string   `yaml:"apiVersion"`
		Kind       string   `yaml:"kind"`
		Metadata   metadata `yaml:"metadata"`
		Spec       struct {
			Replicas int               `yaml:"replicas"`
			Strategy map[string]string `yaml:"strategy"`
			Selector struct {
				MatchLabels map[string]string `yaml:"matchLabels"`
			} `yaml:"selector"`
			Template struct {
				Metadata metadata `yaml:"metadata"`
				Spec     pod      `yaml:"spec"`
			} `yaml:"template"`
		} `yaml:"spec"`
	}
	service struct {
		APIVersion string   `yaml:"apiVersion"`
		Kind       string   `yaml:"kind"`
		Metadata   metadata `yaml:"metadata"`
		Spec       struct {
			Type                  string            `yaml:"type"`
			ExternalTrafficPolicy string            `yaml:"externalTrafficPolicy"`
			Selector              map[string]string `yaml:"selector"`
			Ports                 []struct {
				Name       string `yaml:"name"`
				Port       int    `yaml:"port"`
				TargetPort string `yaml:"targetPort"`
				Protocol   string `yaml:"protocol"`
			} `yaml:"ports"`
		} `yaml:"spec"`
	}
	secret struct {
		APIVersion string            `yaml:"apiVersion"`
		Kind       string            `yaml:"kind"`
		Metadata   metadata          `yaml:"metadata"`
		Type       string            `yaml:"type"`
		StringData map[string]string `yaml:"stringData"`
	}
	claim struct {
		APIVersion string   `yaml:"apiVersion"`
		Kind       string   `yaml:"kind"`
		Metadata   metadata `yaml:"metadata"`
		Spec       struct {
			AccessModes []string                     `yaml:"accessModes"`
			Resources   map[string]map[string]string `yaml:"resources"`
		} `yaml:"spec"`
	}
)

// TestKubernetes: the manifest has nothing that Kubernetes does not know, its
// parts fit each other, and the server takes what it is given.
func TestKubernetes(t *testing.T) {
	var d deployment
	var s service
	var hidden secret
	var c claim
	into := map[string]any{"Deployment": &d, "Service": &s, "Secret": &hidden, "PersistentVolumeClaim": &c}
	for _, text := range strings.Split(read(t, deploy+"kubernetes.yaml"), "\n---\n") {
		var what struct {
			Kind string `yaml:"kind"`
		}
		require.NoError(t, yaml.Unmarshal([]byte(text), &what))
		v := into[what.Kind]
		require.NotNil(t, v, what.Kind)
		decoder := yaml.NewDecoder(bytes.NewReader([]byte(text)), yaml.Strict())
		require.NoError(t, decoder.Decode(v), what.Kind)
		require.True(t, errors.Is(decoder.Decode(v), io.EOF))
		delete(into, what.Kind)
	}
	require.Empty(t, into)
	require.Equal(t, []string{"apps/v1", "v1", "v1", "v1"}, []string{d.APIVersion, s.APIVersion, hidden.APIVersion, c.APIVersion})

	p := d.Spec.Template.Spec
	require.Equal(t, d.Spec.Selector.MatchLabels, d.Spec.Template.Metadata.Labels)
	require.Equal(t, d.Spec.Selector.MatchLabels, s.Spec.Selector)
	require.Equal(t, 1, d.Spec.Replicas)
	require.Equal(t, "Recreate", d.Spec.Strategy["type"], "two processes must not share the volume")
	require.Len(t, p.Containers, 1)
	box := p.Containers[0]
	ports := map[string]string{}
	for _, port := range box.Ports {
		ports[port.Name] = port.Protocol
	}
	for _, port := range s.Spec.Ports {
		require.Equal(t, port.Protocol, ports[port.TargetPort], port.Name)
	}
	for path, probe := range map[string]probe{"/healthz": box.LivenessProbe, "/readyz": box.ReadinessProbe} {
		require.Equal(t, path, probe.HTTPGet.Path)
		require.Equal(t, "TCP", ports[probe.HTTPGet.Port])
		require.Positive(t, probe.PeriodSeconds)
	}
	require.Equal(t, "/healthz", box.StartupProbe.HTTPGet.Path)
	require.True(t, p.SecurityContext.RunAsNonRoot && box.SecurityContext.ReadOnlyRootFilesystem)
	require.False(t, *box.SecurityContext.AllowPrivilegeEscalation || *p.AutomountServiceAccountToken)
	require.Equal(t, []string{"ALL"}, box.SecurityContext.Capabilities.Drop)
	require.Greater(t, p.TerminationGracePeriodSeconds, 35, "longer than draining and completing recordings take")
	require.Equal(t, hidden.Metadata.Name, box.EnvFrom[0].SecretRef.Name)
	for _, m := range box.VolumeMounts {
		found := false
		for _, v := range p.Volumes {
			found = found || v.Name == m.Name
		}
		require.True(t, found, m.Name)
	}
	accepts(t, box.Args, hidden.StringData)
}

// TestOperationsDoc: the page names every flag.
func TestOperationsDoc(t *testing.T) {
	doc := read(t, "../../docs/operations.md")
	new(options).flags().VisitAll(func(f *flag.Flag) {
		require.Regexp(t, "`-"+regexp.QuoteMeta(f.Name)+"[`, ]", doc)
	})
}
