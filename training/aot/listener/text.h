/* What is written: names that may hold anything, numbers as Python writes them, sentences about what went wrong. */
#ifndef LABOUS_TEXT_H
#define LABOUS_TEXT_H

#include <stdbool.h>
#include <stdio.h>

/* A string of JSON, in quotes. What is not a plain letter is escaped; bytes that are no UTF-8 become lone surrogates,
 * as in Python. */
void text_json(FILE *out, const char *text);

/* A number rounded to six digits after the point, as Python's json writes it. */
void text_number(FILE *out, double number);

/* A path as Python's pathlib gives it back: without empty parts and dots. Written over the one given. */
void text_path(char *path);

/* "labous: Recording 'name' ..." on standard error, a sentence and a line. Returns false. */
__attribute__((format(printf, 2, 3))) bool text_refuse(const char *name, const char *sentence, ...);

/* "labous: ..." likewise. Returns false. */
__attribute__((format(printf, 1, 2))) bool text_complain(const char *sentence, ...);

#endif
