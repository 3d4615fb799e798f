"""Getting data sets from the places that publish them; each module is imported by the data set that needs it."""
