"""Tables, figures, model cards and DVC's plots, made from the results of evaluations."""
