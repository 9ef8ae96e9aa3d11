// Copyright: crm.platform contributors
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// nginx refuses a request that is larger than the largest file needs (413) and names the limit in its answer. The web
// client does not read that answer and says that it is to be tried again later: here it becomes a user's error of Tryton.
(function() {
    'use strict';

    jQuery.ajaxPrefilter(function(options) {
        var failed = options.error;
        var succeeded = options.success;
        var id = typeof options.data == 'string' && /^\{"id":(\d+)/.exec(options.data);
        if (!id || typeof failed != 'function' || typeof succeeded != 'function') {
            return;
        }
        options.error = function(query) {
            var told = query.status == 413 && query.responseJSON;
            if (told && told.error) {
                succeeded.call(this, {'id': Number(id[1]), 'error': ['UserError', [told.error, '', null]]}, 'success', query);
            } else {
                failed.apply(this, arguments);
            }
        };
    });
}());
