package cli

const shortHelp = "show the help of a verb"
