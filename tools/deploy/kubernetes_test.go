package deploy_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	disruption "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/intstr"
	security "k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// manifests are all that deploy/kubernetes makes.
type manifests struct {
	namespace  *core.Namespace
	config     *core.ConfigMap
	deployment *apps.Deployment
	pod        core.PodTemplateSpec
	container  core.Container
	service    *core.Service
	budget     *disruption.PodDisruptionBudget
	network    *networking.NetworkPolicy
	monitor    *monitoring.ServiceMonitor
}

// decode reads a manifest as the kind that it says it is. A field that this kind does not have is an error.
func decode(t *testing.T, text []byte) runtime.Object {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		apps.AddToScheme, core.AddToScheme, networking.AddToScheme, disruption.AddToScheme, monitoring.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	strict := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true})
	object, _, err := strict.Decode(text, nil, nil)
	if err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	return object
}

// load does what kubectl apply -k would, up to sending it, and adds what is applied on its own.
func load(t *testing.T) manifests {
	t.Helper()
	made, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), filepath.Join(top, "deploy/kubernetes"))
	if err != nil {
		t.Fatal(err)
	}
	texts := [][]byte{[]byte(read(t, "deploy/kubernetes/servicemonitor.yaml"))}
	for _, resource := range made.Resources() {
		text, err := resource.AsYAML()
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, text)
	}
	var m manifests
	for _, text := range texts {
		switch object := decode(t, text).(type) {
		case *core.Namespace:
			m.namespace = object
		case *core.ConfigMap:
			m.config = object
		case *apps.Deployment:
			m.deployment, m.pod, m.container = object, object.Spec.Template, object.Spec.Template.Spec.Containers[0]
		case *core.Service:
			m.service = object
		case *disruption.PodDisruptionBudget:
			m.budget = object
		case *networking.NetworkPolicy:
			m.network = object
		case *monitoring.ServiceMonitor:
			m.monitor = object
		default:
			t.Fatalf("nobody looks at this:\n%s", text)
		}
	}
	return m
}

func TestEveryManifestIsAppliedAndHasOnlyFieldsThatKubernetesKnows(t *testing.T) {
	var listed struct{ Resources []string }
	if err := yaml.Unmarshal([]byte(read(t, "deploy/kubernetes/kustomization.yaml")), &listed); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(top, "deploy/kubernetes/*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	apart := []string{"kustomization.yaml", "rollcall.yaml", "servicemonitor.yaml"}
	for _, file := range files {
		name := filepath.Base(file)
		if !slices.Contains(append(apart, listed.Resources...), name) {
			t.Errorf("%s is not in kustomization.yaml", name)
		}
		if slices.Contains(listed.Resources, name) {
			decode(t, []byte(read(t, "deploy/kubernetes", name)))
		}
	}
	for _, block := range regexp.MustCompile("(?s)```yaml\n(apiVersion:.*?)```").FindAllStringSubmatch(read(t, "docs/kubernetes.md"), -1) {
		decode(t, []byte(block[1]))
	}
	m := load(t)
	for _, namespace := range []string{
		m.deployment.Namespace, m.service.Namespace, m.budget.Namespace, m.network.Namespace, m.config.Namespace, m.monitor.Namespace,
	} {
		if namespace != m.namespace.Name {
			t.Errorf("a manifest is for namespace %q, not %q", namespace, m.namespace.Name)
		}
	}
}

func TestThePodHoldsToThePodSecurityStandardOfItsNamespace(t *testing.T) {
	m := load(t)
	level := security.Level(m.namespace.Labels["pod-security.kubernetes.io/enforce"])
	if level != security.LevelRestricted {
		t.Fatalf("the namespace enforces %q", level)
	}
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	standard := security.LevelVersion{Level: level, Version: security.LatestVersion()}
	for _, result := range evaluator.EvaluatePod(standard, &m.pod.ObjectMeta, &m.pod.Spec) {
		if !result.Allowed {
			t.Errorf("%s: %s", result.ForbiddenReason, result.ForbiddenDetail)
		}
	}
	if !*m.container.SecurityContext.ReadOnlyRootFilesystem || *m.pod.Spec.AutomountServiceAccountToken || *m.pod.Spec.EnableServiceLinks {
		t.Error("the root file system is not read-only, or the pod gets a token of the cluster or links to services")
	}
}

func TestSelectorsAndPortsLeadToThePod(t *testing.T) {
	m := load(t)
	pod := labels.Set(m.pod.Labels)
	chosen := map[string]*meta.LabelSelector{
		"Deployment": m.deployment.Spec.Selector, "PodDisruptionBudget": m.budget.Spec.Selector, "NetworkPolicy": &m.network.Spec.PodSelector,
		"Service": {MatchLabels: m.service.Spec.Selector},
	}
	for i, spread := range m.pod.Spec.TopologySpreadConstraints {
		chosen[fmt.Sprintf("topology spread %d", i)] = spread.LabelSelector
	}
	for what, selector := range chosen {
		if s, err := meta.LabelSelectorAsSelector(selector); err != nil || s.Empty() || !s.Matches(pod) {
			t.Errorf("the selector of the %s, %v, does not choose pods with %v (%v)", what, selector, pod, err)
		}
	}
	if s, err := meta.LabelSelectorAsSelector(&m.monitor.Spec.Selector); err != nil || s.Empty() || !s.Matches(labels.Set(m.service.Labels)) {
		t.Errorf("the ServiceMonitor does not choose a service with %v (%v)", m.service.Labels, err)
	}
	if job := m.service.Labels[m.monitor.Spec.JobLabel]; job != "rollcall" {
		t.Errorf("the ServiceMonitor names the job %q, the alert rules look for rollcall", job)
	}

	ports := map[string]int32{}
	for _, port := range m.container.Ports {
		ports[port.Name] = port.ContainerPort
	}
	wanted := []intstr.IntOrString{
		m.container.StartupProbe.HTTPGet.Port, m.container.LivenessProbe.HTTPGet.Port, m.container.ReadinessProbe.HTTPGet.Port,
	}
	served := map[string]bool{}
	for _, port := range m.service.Spec.Ports {
		wanted, served[port.Name] = append(wanted, port.TargetPort), true
	}
	for _, rule := range m.network.Spec.Ingress {
		for _, port := range rule.Ports {
			wanted = append(wanted, *port.Port)
		}
	}
	for _, port := range wanted {
		if ports[port.StrVal] == 0 {
			t.Errorf("the pod has no port named %q", port.StrVal)
		}
	}
	for _, endpoint := range m.monitor.Spec.Endpoints {
		if !served[endpoint.Port] {
			t.Errorf("the service has no port named %q", endpoint.Port)
		}
	}
	settings := settingsOf(t, m)
	for name, key := range map[string]string{"http": "server.listen", "metrics": "telemetry.listen"} {
		if listen := settings[key]; listen != fmt.Sprintf(":%d", ports[name]) {
			t.Errorf("%s is %s, the pod's port %s is %d", key, listen, name, ports[name])
		}
	}
	port := regexp.MustCompile(`:\d+$`).FindString(settings["ldap.url"])
	if rule := m.network.Spec.Egress[0].Ports[0].Port.String(); ":"+rule != port {
		t.Errorf("the network policy lets the pods reach port %s of the directory, ldap.url is %s", rule, settings["ldap.url"])
	}
}

func TestThePodHasTheTimeAndTheMemoryThatItNeeds(t *testing.T) {
	m := load(t)
	settings := settingsOf(t, m)
	shutdown, err := time.ParseDuration(settings["server.shutdown_timeout"])
	if err != nil {
		t.Fatal(err)
	}
	grace := time.Duration(*m.pod.Spec.TerminationGracePeriodSeconds) * time.Second
	wait := time.Duration(m.container.Lifecycle.PreStop.Sleep.Seconds) * time.Second
	if grace < wait+shutdown+5*time.Second {
		t.Errorf("it is killed after %s, but preStop takes %s and server.shutdown_timeout %s", grace, wait, shutdown)
	}
	memory, ok := strings.CutSuffix(variables(m)["GOMEMLIMIT"], "MiB")
	soft, err := strconv.Atoi(memory)
	if !ok || err != nil {
		t.Fatalf("GOMEMLIMIT is %q", variables(m)["GOMEMLIMIT"])
	}
	if hard := int(m.container.Resources.Limits.Memory().Value() >> 20); soft*100 < hard*60 || soft*100 > hard*85 {
		t.Errorf("GOMEMLIMIT of %d MiB does not fit a limit of %d MiB", soft, hard)
	}
}

func TestAllReplicasTogetherStayBelowTheDirectorysLimits(t *testing.T) {
	m := load(t)
	settings := settingsOf(t, m)
	replicas, surge := int(*m.deployment.Spec.Replicas), m.deployment.Spec.Strategy.RollingUpdate.MaxSurge.IntValue()
	number := func(key string) int {
		n, err := strconv.Atoi(settings[key])
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		return n
	}
	if together := number("ldap.sorted_searches") * (replicas + surge); together > 8 {
		t.Errorf("%d searches may be sorted at a time, slapd does eight", together)
	}
	advised := regexp.MustCompile("`pwdMaxFailure: (\\d+)`").FindStringSubmatch(read(t, "docs/kubernetes.md"))
	if advised == nil {
		t.Fatal("docs/kubernetes.md advises no `pwdMaxFailure: …`")
	}
	allowed, err := strconv.Atoi(advised[1])
	if most := 3 * number("auth.max_failures") * 2 * replicas; err != nil || allowed <= most {
		t.Errorf("strangers can fail %d logins of a name, docs/kubernetes.md advises pwdMaxFailure %s", most, advised[1])
	}
}

func TestTheProgramStartsWithWhatTheManifestsGiveIt(t *testing.T) {
	m := load(t)
	root, environment := mounted(t, m)
	said := serve(t, environment, "--config", filepath.Join(root, "config/rollcall.yaml"))
	if status, body := ask(t, "GET", said["listens on"]+m.container.LivenessProbe.HTTPGet.Path, "", "", ""); status != 200 {
		t.Errorf("liveness: %d\n%s", status, body)
	}
	// The directory of the example is nowhere.
	if status, body := ask(t, "GET", said["listens on"]+m.container.ReadinessProbe.HTTPGet.Path, "", "", ""); status != 503 {
		t.Errorf("readiness: %d\n%s", status, body)
	}
}

func variables(m manifests) map[string]string {
	all := map[string]string{}
	for _, v := range m.container.Env {
		all[v.Name] = v.Value
	}
	return all
}

// created finds the commands of the guide that make a ConfigMap or a Secret of files.
var created = regexp.MustCompile(`kubectl create (?:configmap|secret generic) (\S+) -n \S+((?: --from-file=\S+)+)`)

// mounted lays out the files that the container would find, in a folder in place of /etc/rollcall: those of the
// ConfigMap, and those that the guide's commands make. It returns the folder and the container's environment.
func mounted(t *testing.T, m manifests) (string, []string) {
	t.Helper()
	root := t.TempDir()
	there := func(text string) string { return strings.ReplaceAll(text, "/etc/rollcall", root) }
	files := map[string]map[string]string{m.config.Name: {}}
	for name, text := range m.config.Data {
		files[m.config.Name][name] = there(text)
	}
	for _, command := range created.FindAllStringSubmatch(read(t, "docs/kubernetes.md"), -1) {
		files[command[1]] = map[string]string{}
		for file := range strings.FieldsSeq(command[2]) {
			name := strings.TrimPrefix(file, "--from-file=")
			files[command[1]][name] = secret(t, name)
		}
	}
	folders := map[string]string{}
	for _, mount := range m.container.VolumeMounts {
		folders[mount.Name] = there(mount.MountPath)
	}
	for _, volume := range m.pod.Spec.Volumes {
		var name string
		if volume.ConfigMap != nil {
			name = volume.ConfigMap.Name
		} else {
			name = volume.Secret.SecretName
		}
		if files[name] == nil {
			t.Fatalf("nothing makes what volume %s is of: %q; there are %v", volume.Name, name, slices.Sorted(maps.Keys(files)))
		}
		for file, text := range files[name] {
			write(t, filepath.Join(folders[volume.Name], file), text)
		}
	}
	var environment []string
	for name, value := range variables(m) {
		environment = append(environment, name+"="+there(value))
	}
	for i, argument := range m.container.Args {
		if i > 0 && m.container.Args[i-1] == "--config" {
			if _, err := os.Stat(there(argument)); err != nil {
				t.Fatal(err)
			}
		}
	}
	return root, environment
}

// settingsOf returns the settings that the program runs with in the pod, such as "ldap.url".
func settingsOf(t *testing.T, m manifests) map[string]string {
	t.Helper()
	root, environment := mounted(t, m)
	return settings(t, effective(t, environment, "--config", filepath.Join(root, "config/rollcall.yaml")))
}

// settings reads what rollcall config prints.
func settings(t *testing.T, printed string) map[string]string {
	t.Helper()
	var sections map[string]map[string]any
	if err := yaml.Unmarshal([]byte(printed), &sections); err != nil {
		t.Fatalf("%v\n%s", err, printed)
	}
	all := map[string]string{}
	for section, keys := range sections {
		for key, value := range keys {
			all[section+"."+key] = fmt.Sprint(value)
		}
	}
	return all
}
