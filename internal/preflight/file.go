package preflight

import "fmt"

// policyFile warns of a policy that others can read, as it contains the knocks, or
// change, as it says what is hidden.
func (f *facts) policyFile() []Finding {
	var found []Finding
	if o := f.readers; o.Who != "" {
		found = append(found, Finding{
			Kind:     PolicyReadable,
			Severity: Warning,
			Message:  fmt.Sprintf("%s on this host can read %s, which contains the knocks", o.Who, o.Path),
			Hints:    []string{fmt.Sprintf("chmod 600 %s", o.Path)},
		})
	}
	if o := f.changers; o.Who != "" {
		remedy := fmt.Sprintf("chown root %s, and chmod go-w %s", o.Path, o.Path)
		message := fmt.Sprintf("%s can change %s, and so what is hidden", o.Who, o.Path)
		if o.Path != f.policyPath {
			message = fmt.Sprintf("%s can change the directory %s, and so replace %s", o.Who, o.Path, f.policyPath)
		}
		found = append(found, Finding{Kind: PolicyWritable, Severity: Warning, Message: message, Hints: []string{remedy}})
	}
	return found
}
