/* file_watch.h: reloads the app when one of its files changes (`--watch`). Control only.
 *
 * What is watched are the folders of the files that the app has loaded, because editors write a new
 * file and rename it over the old one; and, where links lead to them, the folders of those links,
 * because a deploy may change where one leads. A change counts once nothing more has changed for a
 * moment. After a reload that failed any Lua file in these folders counts: the one at fault may not
 * have come as far as being loaded.
 */
#ifndef SHOVE_CONTROL_FILE_WATCH_H
#define SHOVE_CONTROL_FILE_WATCH_H

#include "control/state.h"

/* Watches the files that control->topology names, in place of what was watched before. What cannot
 * be watched is told of in a warning. */
void shove_file_watch_start(struct shove_control *control);

/* Frees what is left, after the loop is closed. */
void shove_file_watch_release(struct shove_control *control);

#endif
