"""Other languages than English, read into the nouns and scene phrases that a base knows.

- :mod:`~catalog_pipeline.languages.english`: what is left as it is typed.
- :mod:`~catalog_pipeline.languages.vocabulary`: the phrases, and which of them a base knows.
- :mod:`~catalog_pipeline.languages.word_list`: words of five languages, and names that end in one.
- :mod:`~catalog_pipeline.languages.encoder`: the multilingual sentence encoder.
- :mod:`~catalog_pipeline.languages.matching`: a text to a phrase, in this order.
"""
