package inventory

import "slices"

// predecessors are the field managers of what deployed an object before us.
var predecessors = []string{
	"argocd-controller", "argocd-application-controller", // Argo CD
	"kustomize-controller", "helm-controller", "flux", // Flux
	"helm", "Helm",
	"before-first-apply", // who wrote it before managers were noted
}

// IsPredecessor tells the field managers of what deploys objects, people's
// kubectl among them, from those of controllers that see to one field.
func IsPredecessor(manager string) bool {
	return IsPerson(manager) || slices.Contains(predecessors, manager)
}
