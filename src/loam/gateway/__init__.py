"""The HTTP borders and the stages of the road."""
