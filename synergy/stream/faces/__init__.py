"""The learner with the manners of other libraries: scikit-learn, river."""
