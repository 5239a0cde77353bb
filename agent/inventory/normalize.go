package inventory

import (
	"encoding/base64"
	"errors"
	"maps"
)

// Normalize turns what may be written, but is never stored so, into what is
// stored. All else goes to the API server as it stands in Git, which judges it
// strictly: what passes through Go types on the way loses the fields that they
// do not have, be they mistyped or only newer than this program, and gains
// empty ones (an aggregated ClusterRole would give up its rules).
func Normalize(object map[string]any) error {
	delete(object, "status")
	if meta, ok := object["metadata"].(map[string]any); ok {
		delete(meta, "creationTimestamp")
	}
	if object["apiVersion"] == "v1" && object["kind"] == "Secret" {
		return plainToData(object)
	}
	return nil
}

// plainToData moves a Secret's stringData to data, as the API server does. Who
// applies stringData owns none of what becomes of it.
func plainToData(secret map[string]any) error {
	written, found := secret["stringData"]
	if !found {
		return nil
	}
	plain, ok := written.(map[string]any)
	if !ok && written != nil {
		return errors.New("stringData: wants an object")
	}
	data := map[string]any{}
	switch was := secret["data"].(type) {
	case nil:
	case map[string]any:
		data = maps.Clone(was)
	default:
		return errors.New("data: wants an object")
	}
	for key, value := range plain {
		text, ok := value.(string)
		if !ok {
			return errors.New("stringData: wants strings only") // the value is not to be quoted
		}
		data[key] = base64.StdEncoding.EncodeToString([]byte(text))
	}
	delete(secret, "stringData")
	secret["data"] = data
	return nil
}
