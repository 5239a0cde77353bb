package apply

import (
	"encoding/base64"
	"errors"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// normalize turns what may be written, but is never stored so, into what is
// stored. All else goes to the API server as it stands in Git, which judges it
// strictly: what passes through Go types on the way loses the fields that they
// do not have, be they mistyped or only newer than this program, and gains
// empty ones (an aggregated ClusterRole would give up its rules).
func normalize(u *unstructured.Unstructured) error {
	unstructured.RemoveNestedField(u.Object, "status")
	unstructured.RemoveNestedField(u.Object, "metadata", "creationTimestamp")
	if u.GroupVersionKind().GroupKind().String() == "Secret" {
		return plainToData(u)
	}
	return nil
}

// plainToData moves a Secret's stringData to data, as the API server does. Who
// applies stringData owns none of what becomes of it.
func plainToData(u *unstructured.Unstructured) error {
	plain, found, err := unstructured.NestedStringMap(u.Object, "stringData")
	if err != nil {
		return errors.New("stringData: wants strings only") // the error would quote a value
	}
	if !found {
		return nil
	}
	data, _, err := unstructured.NestedMap(u.Object, "data")
	if err != nil {
		return errors.New("data: wants an object")
	}
	if data == nil {
		data = make(map[string]any, len(plain))
	}
	for key, value := range plain {
		data[key] = base64.StdEncoding.EncodeToString([]byte(value))
	}
	unstructured.RemoveNestedField(u.Object, "stringData")
	return unstructured.SetNestedMap(u.Object, data, "data")
}
