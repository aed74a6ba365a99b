"""The parser's exceptions, by the names under which users meet them."""


class MisspellNodeError(Exception):
    pass


class UnsupportedModelError(Exception):
    pass


class ParsingWithRecommendationException(Exception):  # noqa: N818 - Hailo's name
    """Some versions carry the names, some only say them at the end of the text."""

    def __init__(self, message, recommended_end_node_names=None):
        super().__init__(message)
        if recommended_end_node_names is not None:
            self.recommended_end_node_names = recommended_end_node_names
